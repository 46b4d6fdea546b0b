//! A server that does as it is told. Frames of a `u32` big-endian length; the first word of each says what to do, the
//! rest is ballast.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use steadfast::BoxError;

use crate::child;

pub(crate) fn run() -> Result<Infallible, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    child::announce::addresses(&[listener.local_addr()?])?;
    loop {
        let (client, _) = listener.accept()?;
        std::thread::spawn(|| obey(client));
    }
}

/// Ends with the connection, which returning closes.
fn obey(mut client: TcpStream) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let word = word(&mut client, u32::from_be_bytes(length))?;
        match &*word {
            "close" => return Ok(()),
            // The beginning of an answer of 9 bytes.
            "half" => return client.write_all(&[0, 0, 0, 9, b'a']),
            "linger" => {
                return socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            }
            // Its ballast is unread, in the following two as well.
            "unread" => return Ok(()),
            "half_close" => return client.shutdown(Shutdown::Write),
            "deaf" | "deaf_to_the_kernel" => loop {
                std::thread::park();
            },
            "garbage" => client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?,
            "mute" => {}
            _ => client.write_all(&[0, 0, 0, 2, b'o', b'k'])?,
        }
    }
}

/// As much of a frame as there is before a blank; the frame is read, too, if there is none.
fn word(client: &mut TcpStream, length: u32) -> io::Result<String> {
    let (mut word, mut byte) = (String::new(), [0]);
    for _ in 0..length {
        // One by one, so that the kernel keeps what is behind the word.
        client.read_exact(&mut byte)?;
        match byte {
            [b' '] => break,
            [letter] => word.push(letter.into()),
        }
    }
    Ok(word)
}
