//! [`Blocks`]: collects bytes into blocks of one size, read straight into their place.

use std::io::{self, Read, Write};

use super::error::LayerError;

/// Takes full blocks.
pub(super) trait Take {
    /// Takes the first `length` bytes of `block`, and gives back a buffer of the same size to fill next,
    /// whatever it holds.
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError>;
}

/// Bytes on their way into blocks. A block is passed on as soon as it is full.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    taker: T,
    block: Vec<u8>,
    filled: usize,
}

impl<T: Take> Blocks<T> {
    /// Begins, with blocks of `size` bytes.
    pub(super) fn new(taker: T, size: usize) -> Self {
        Self { taker, block: vec![0; size], filled: 0 }
    }

    /// Adds bytes.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let space = self.space();
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.advance(count)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Room for the next bytes; there always is some.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.block[self.filled..]
    }

    /// Says that `count` bytes were put into the space.
    pub(super) fn advance(&mut self, count: usize) -> Result<(), LayerError> {
        self.filled += count;
        if self.filled == self.block.len() {
            self.block = self.taker.take(std::mem::take(&mut self.block), self.filled)?;
            self.filled = 0;
        }
        Ok(())
    }

    /// Adds everything that `reader` has.
    pub(super) fn drain(&mut self, reader: &mut dyn Read) -> Result<(), LayerError> {
        loop {
            match reader.read(self.space()) {
                Ok(0) => return Ok(()),
                Ok(count) => self.advance(count)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::stream(error)),
            }
        }
    }

    /// Gives back the taker, the last block, which was not passed on, and how many bytes it holds.
    pub(super) fn finish(self) -> (T, Vec<u8>, usize) {
        (self.taker, self.block, self.filled)
    }
}

/// Writes blocks as they are.
#[derive(Debug)]
pub(super) struct Through<W>(pub(super) W);

impl<W: Write> Take for Through<W> {
    fn take(&mut self, block: Vec<u8>, length: usize) -> Result<Vec<u8>, LayerError> {
        self.0.write_all(&block[..length]).map_err(written)?;
        Ok(block)
    }
}

/// Wraps a failed write of layer data; an error of this room that travelled through a writer comes out as
/// itself.
pub(super) fn written(error: io::Error) -> LayerError {
    match error.downcast::<LayerError>() {
        Ok(own) => own,
        Err(other) => LayerError::io("write", "layer", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_passed_on_when_they_are_full() {
        let mut blocks = Blocks::new(Through(Vec::new()), 4);
        for (bytes, passed_on) in [(&b"ab"[..], 0), (b"", 0), (b"cd", 4), (b"efghijklm", 12), (b"nop", 16)] {
            blocks.put(bytes).unwrap();
            assert_eq!(blocks.taker.0.len(), passed_on);
        }
        blocks.drain(&mut &b"qrstuv"[..]).unwrap();
        let (through, last, length) = blocks.finish();
        assert_eq!(through.0, b"abcdefghijklmnopqrst");
        assert_eq!(&last[..length], b"uv");
    }
}
