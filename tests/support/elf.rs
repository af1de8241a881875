//! Which machine an ELF file is for, from its header alone.

/// The e_machine of an ELF file; nothing if `bytes` is no ELF file.
pub(crate) fn machine(bytes: &[u8]) -> Option<u16> {
    let header = bytes.get(..20)?;
    if &header[..4] != b"\x7fELF" {
        return None;
    }
    let field = [header[18], header[19]];
    Some(match header[5] {
        2 => u16::from_be_bytes(field),
        _ => u16::from_le_bytes(field),
    })
}
