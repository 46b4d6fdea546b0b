use std::io::{self, Read, Write};
use std::net::TcpStream;

pub fn ask(server: &str, question: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(server)?;
    socket.write_all(&(question.len() as u32).to_le_bytes())?;
    socket.write_all(question.as_bytes())?;
    // The bug of all bugs: as if one read were one message.
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[4..length]).into())
}
