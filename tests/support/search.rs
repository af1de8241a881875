//! Looks for a value in all that a build has left.

use std::io::Read;
use std::path::Path;

use base64::Engine as _;

/// Asserts that no file below `folder` holds `value`: not in its name, a link's target, its bytes,
/// its decompressed bytes, nor in base64 or hexadecimal. Gives back how many files were looked at.
#[track_caller]
pub(crate) fn found_nowhere(folder: &Path, value: &str) -> usize {
    if !super::is_root() {
        // The store holds files of subordinate ids, which only a namespace with these ids can open.
        let run = ["--user", "--map-root-user", "--map-auto", "--", "chmod", "-R", "a+rX"];
        super::tool("unshare", run.into_iter().chain([folder.to_str().expect("UTF-8")])).success();
    }
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value);
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let forms = [value.as_bytes(), base64.as_bytes(), hex.as_bytes()];
    let mut found = Vec::new();
    let mut files = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("metadata").file_type();
            let mut texts = vec![path.as_os_str().as_encoded_bytes().to_vec()];
            if kind.is_dir() {
                folders.push(path.clone());
            } else if kind.is_symlink() {
                texts.push(std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes());
            } else if kind.is_file() {
                files += 1;
                let bytes =
                    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                texts.extend(decompressed(&bytes));
                texts.push(bytes);
            }
            if texts.iter().any(|text| forms.iter().any(|form| contains(text, form))) {
                found.push(path);
            }
        }
    }
    assert!(found.is_empty(), "the value is in {found:?}");
    files
}

fn decompressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    // What can be read of a file that is cut off is looked at too.
    match bytes {
        [0x1f, 0x8b, ..] => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut content)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => drop(zstd::Decoder::new(bytes).ok()?.read_to_end(&mut content)),
        _ => return None,
    }
    Some(content)
}

/// True if `text` holds `part`. Files are large: the first byte is looked for alone.
fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else {
        return true;
    };
    let mut left = text;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}
