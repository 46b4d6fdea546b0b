//! A name server that takes its time: another server that asks it answers later than it was asked.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, ResourceRecord, SimpleDnsError};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::configuration::address_of;

/// Knows the names that begin with a number. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Slow {
    address: SocketAddr,
    gate: watch::Sender<Gate>,
    /// Names that it was asked for.
    asked: watch::Receiver<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    Open,
}

impl Slow {
    /// It answers nothing until it is [opened](Self::open).
    pub(crate) async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let (gate, opened) = watch::channel(Gate::Shut);
        let (asking, asked) = watch::channel(Vec::new());
        tokio::spawn(serve(socket, opened, asking));
        Ok(Self { address, gate, asked })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when it was asked for this name.
    pub(crate) async fn asked(&self, name: &str) {
        // It ends only after this.
        let _ = self.asked.clone().wait_for(|names| names.iter().any(|asked| asked == name)).await;
    }

    /// It answers all that it was asked, and from now on at once.
    pub(crate) fn open(&self) {
        self.gate.send_replace(Gate::Open);
    }
}

async fn serve(
    socket: UdpSocket,
    mut gate: watch::Receiver<Gate>,
    asking: watch::Sender<Vec<String>>,
) {
    let mut held = Vec::new();
    let mut query = [0; 4096];
    loop {
        tokio::select! {
            opened = gate.changed() => if opened.is_err() { break },
            received = socket.recv_from(&mut query) => {
                let Ok((length, from)) = received else { break };
                let Ok((name, answer)) = answer(&query[..length]) else { continue };
                asking.send_modify(|names| names.push(name));
                held.push((answer, from));
            }
        }
        if *gate.borrow() == Gate::Open {
            for (answer, from) in held.drain(..) {
                // A lost datagram is asked for again.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }
}

/// The name, and the answer.
fn answer(query: &[u8]) -> Result<(String, Vec<u8>), SimpleDnsError> {
    let mut packet = Packet::parse(query)?.into_reply();
    let Some(question) = packet.questions.first() else {
        return Err(SimpleDnsError::InsufficientData);
    };
    let name = question.qname.clone();
    let text = name.to_string();
    let number = text.split('.').next().and_then(|label| label.parse().ok());
    if let Some(number) = number {
        let address = RData::A(address_of(number).into());
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, address));
    }
    Ok((text, packet.build_bytes_vec()?))
}
