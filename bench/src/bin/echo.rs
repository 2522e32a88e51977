//! The Linux side's echo server: messages one by one over TCP (port 5002, framed as Segue's echo application
//! frames them), datagrams (port 7), and
//! bytes that nobody wants back (port 9), at the address where Segue has its own. One thread for datagrams, one for each connection.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

const ADDRESS: &str = "10.0.2.30";
/// Longest message.
const MESSAGE: usize = 1 << 20;

fn main() -> io::Result<()> {
    // At one address: answers come from there.
    let datagrams = UdpSocket::bind((ADDRESS, 7))?;
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        // One that cannot be sent back is lost, as datagrams are.
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..length], from);
        }
    });
    let discard = TcpListener::bind((ADDRESS, 9))?;
    thread::spawn(move || {
        for stream in discard.incoming().flatten() {
            thread::spawn(move || swallow(stream));
        }
    });
    for stream in TcpListener::bind((ADDRESS, 5002))?.incoming() {
        let stream = stream?;
        // A client that goes away is its own affair.
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// Reads to the end.
fn swallow(mut stream: TcpStream) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = vec![0; MESSAGE];
    loop {
        stream.read_exact(&mut message[..4])?;
        let length = message
            .first_chunk::<4>()
            .map_or(0, |header| u32::from_be_bytes(*header)) as usize;
        let rest = message
            .get_mut(4..length)
            .ok_or(io::ErrorKind::InvalidData)?;
        stream.read_exact(rest)?;
        stream.write_all(&message[..length])?;
    }
}
