//! Reading the kernel's small text files.

use std::fs::File;
use std::io::{self, Read};

/// Reads a file of procfs, sysfs or cgroupfs up to `limit` bytes, without asking for its size first: these
/// files say 0 or 4096.
///
/// # Errors
/// As open(2) and read(2); `InvalidData` if it is longer than `limit`, or not UTF-8.
pub(crate) fn read(path: &str, limit: usize) -> io::Result<String> {
    // All that is read for each start fits, but for AppArmor's list.
    let mut bytes = Vec::with_capacity(1024);
    read_from(File::open(path)?, limit, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// As [`read`], for a file that does not exist on every kernel.
pub(crate) fn read_if_there(path: &str, limit: usize) -> io::Result<Option<String>> {
    match read(path, limit) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Appends a whole file to `bytes`, which may get at most `limit` of them.
pub(crate) fn read_from(mut file: impl Read, limit: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    file.by_ref().take(limit as u64 + 1).read_to_end(bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than {limit} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_long_as_the_limit_is_read_and_one_byte_more_is_not() {
        let mut bytes = Vec::new();
        read_from(&b"abc"[..], 3, &mut bytes).unwrap();
        assert_eq!(bytes, b"abc");
        let error = read_from(&b"abcd"[..], 3, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "longer than 3 bytes");
        assert_eq!(read_if_there("/proc/none", 9).unwrap(), None);
        assert!(read("/proc/none", 9).is_err());
    }
}
