//! What the two sides of the story say to each other. None of it is steadfast's: it is what such servers speak.
//!
//! ```text
//!  command connection: a u32 length, little-endian, and a text      data connection: a u16 length and bytes
//!
//!  ► begin NAME              open or create it                      ► store NAME from 8192
//!  ◄ at 8192                 so many bytes are there                ◄ at 8192
//!  ► finish NAME             close it                               ► 4096 bytes
//!  ◄ sha256 91c7…            of all that is there                   ◄ at 12288
//!  ◄ error WHY               anything that is not right             ◄ error WHY
//! ```

use steadfast::{BoxError, Framing};

/// How many bytes of the file a piece has, and none is longer.
pub(crate) const PIECE: usize = 4096;

pub(crate) const COMMANDS: Framing = Framing::u32_le().limit(1024);
pub(crate) const DATA: Framing = Framing::u16_le().limit(PIECE);

/// The position in `at 8192`.
pub(crate) fn position(answer: &[u8]) -> Result<u64, BoxError> {
    let answer = String::from_utf8_lossy(answer);
    match answer.strip_prefix("at ").map(str::parse) {
        Some(Ok(position)) => Ok(position),
        _ => Err(format!("the server said: {answer}").into()),
    }
}

/// The hash in `sha256 91c7…`.
pub(crate) fn hash(answer: &[u8]) -> Result<String, BoxError> {
    let answer = String::from_utf8_lossy(answer);
    match answer.strip_prefix("sha256 ") {
        Some(hash) => Ok(hash.to_owned()),
        None => Err(format!("the server said: {answer}").into()),
    }
}

/// The hash of a file, in hexadecimal digits. It blocks while it reads.
pub(crate) fn sha256(path: &std::path::Path) -> std::io::Result<String> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}
