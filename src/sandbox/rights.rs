//! Sending open descriptors to another process, along with bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::sys;

/// Most descriptors that one message takes here.
pub(super) const MOST: usize = 3;

/// Sends `bytes`, of which there is at least one, with `descriptors`. Gives how many bytes went out: the
/// descriptors belong to the first.
pub(super) fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives as many bytes as there are, at most as `buffer` holds, and what descriptors came with them.
/// No byte means that the other side is gone.
pub(super) fn receive(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut buffer = [IoSliceMut::new(buffer)];
    let mut space = cmsg_space!([RawFd; MOST]);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(raw.into_iter().map(sys::own_received));
        }
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_travel() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut end, other) = UnixStream::pair().unwrap();
        assert_eq!(send(&ours, b"ab", &[other.as_fd()]).unwrap(), 2);
        drop(other);
        let mut bytes = [0; 8];
        let (count, mut received) = receive(&theirs, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"ab");
        UnixStream::from(received.pop().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        send(&ours, b"c", &[]).unwrap();
        let (count, received) = receive(&theirs, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], received.len()), (&b"c"[..], 0));
        drop(ours);
        assert_eq!(receive(&theirs, &mut bytes).unwrap().0, 0);
    }
}
