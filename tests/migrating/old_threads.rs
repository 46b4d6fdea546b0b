use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

pub struct Client {
    next: AtomicU32,
    outbox: Mutex<Sender<Vec<u8>>>,
    waiting: Arc<Mutex<HashMap<u32, Sender<String>>>>,
    pub receiving: JoinHandle<()>,
}

impl Client {
    /// Also returns the events, which come with the id 0.
    pub fn connect(server: &str) -> io::Result<(Self, Receiver<String>)> {
        let mut receiver = TcpStream::connect(server)?;
        let mut sender = receiver.try_clone()?;
        let (outbox, frames) = channel::<Vec<u8>>();
        let (news, events) = channel();
        let waiting = Arc::new(Mutex::new(HashMap::<u32, Sender<String>>::new()));
        let callers = waiting.clone();
        spawn(move || frames.iter().try_for_each(|frame| sender.write_all(&frame)));
        let receiving = spawn(move || {
            while let Ok((id, text)) = receive(&mut receiver) {
                let caller = callers.lock().unwrap().remove(&id);
                let _ = caller.as_ref().unwrap_or(&news).send(text);
            }
            // The connection is dead. Whoever waits goes on waiting.
        });
        let (next, outbox) = (AtomicU32::new(1), Mutex::new(outbox));
        Ok((Self { next, outbox, waiting, receiving }, events))
    }

    pub fn ask(&self, question: &str) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let length = (4 + question.len() as u32).to_le_bytes();
        let frame = [&length, &id.to_le_bytes(), question.as_bytes()].concat();
        self.outbox.lock().unwrap().send(frame).unwrap();
        answer.recv().unwrap()
    }
}

fn receive(socket: &mut TcpStream) -> io::Result<(u32, String)> {
    let (mut length, mut id) = ([0; 4], [0; 4]);
    socket.read_exact(&mut length)?;
    socket.read_exact(&mut id)?;
    let mut text = vec![0; u32::from_le_bytes(length) as usize - 4];
    socket.read_exact(&mut text)?;
    Ok((u32::from_le_bytes(id), String::from_utf8_lossy(&text).into()))
}
