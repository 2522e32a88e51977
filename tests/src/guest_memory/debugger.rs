//! Writing to memory through QEMU's debugger stub, which forgets what was translated from there.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes in one command; QEMU takes some 2,000.
const MOST: usize = 512;

/// A connection to QEMU's debugger stub. While it exists the machine stands still; dropping it lets the
/// machine go on.
pub struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    /// Connects to the socket given to [`segue_qemu::Machine::debugger`], and so stops the machine.
    ///
    /// # Errors
    /// If nobody listens, or answers otherwise.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut debugger = Self { stream };
        // Why it stands still; then: addresses are physical ones.
        debugger.command("?")?;
        debugger.expect_ok("Qqemu.PhyMemMode:1")?;
        Ok(debugger)
    }

    /// Changes bytes at a physical address.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> io::Result<()> {
        for (place, part) in bytes.chunks(MOST).enumerate() {
            let address = address + (place * MOST) as u64;
            let digits: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            self.expect_ok(&format!("M{address:x},{:x}:{digits}", part.len()))?;
        }
        Ok(())
    }

    /// The 32-bit word at a physical address, which may be a device's register.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn word(&mut self, address: u64) -> io::Result<u32> {
        let digits = self.command(&format!("m{address:x},4"))?;
        let word = u32::from_str_radix(&digits, 16).map_err(|_| {
            io::Error::other(format!(
                "QEMU's debugger stub answers \"{digits}\" for the word at {address:#x}"
            ))
        })?;
        Ok(word.swap_bytes())
    }

    fn expect_ok(&mut self, command: &str) -> io::Result<()> {
        match self.command(command)?.as_str() {
            "OK" => Ok(()),
            other => Err(io::Error::other(format!(
                "QEMU's debugger stub answers \"{other}\" to \"{command}\""
            ))),
        }
    }

    /// Sends a command and gives the answer.
    fn command(&mut self, command: &str) -> io::Result<String> {
        self.stream.write_all(&packet(command))?;
        loop {
            // Acknowledgements of what we sent are left out.
            while self.byte()? != b'$' {}
            let mut answer = Vec::new();
            loop {
                match self.byte()? {
                    b'#' => break,
                    byte => answer.push(byte),
                }
            }
            // The sum over it: the way is safe.
            self.byte()?;
            self.byte()?;
            self.stream.write_all(b"+")?;
            let answer = String::from_utf8(answer)
                .map_err(|_| io::Error::new(ErrorKind::InvalidData, "no text"))?;
            // It tells, unasked, that the machine has stopped.
            if command == "?" || !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // If QEMU has ended there is nobody to let go on.
        let _ = self.command("D");
    }
}

/// A command as it is sent: with a sum over its bytes.
fn packet(command: &str) -> Vec<u8> {
    let sum = command.bytes().fold(0u8, u8::wrapping_add);
    format!("${command}#{sum:02x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_a_sum() {
        assert_eq!(packet("OK"), b"$OK#9a");
        assert_eq!(packet("?"), b"$?#3f");
    }

    #[test]
    fn answers_are_told_from_what_comes_unasked() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut debugger = Debugger { stream: ours };
        theirs
            .write_all(b"+$T05thread:01;#07$OK#9a+$E14#aa+$OK#9a")
            .unwrap();
        debugger.write(0x1000, &[1, 2]).unwrap();
        assert!(debugger.write(0x1000, &[1, 2]).is_err());
        let mut sent = [0; 17];
        theirs.read_exact(&mut sent).unwrap();
        assert!(sent.starts_with(b"$M1000,2:0102#"));
    }
}
