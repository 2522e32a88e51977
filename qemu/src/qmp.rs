//! QEMU's control protocol (QMP), as much as is needed here.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Error;

/// How long QEMU may take for a command.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to a running QEMU.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Speaks the greeting on a fresh connection.
    pub(crate) fn new(stream: UnixStream) -> Result<Self, Error> {
        stream
            .set_read_timeout(Some(ANSWER))
            .map_err(|error| Error::Protocol(format!("QMP: {error}")))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
        };
        let greeting = qmp.message()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Protocol(format!("QMP: no greeting but {greeting}")));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and gives its result; events meanwhile are skipped.
    ///
    /// # Errors
    /// [`Error::Protocol`] with QEMU's own description.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let request = json!({ "execute": command, "arguments": arguments });
        let failed = |cause: &dyn std::fmt::Display| {
            Error::Protocol(format!("QEMU's command {command}: {cause}"))
        };
        self.reader
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .map_err(|error| failed(&error))?;
        loop {
            let message = self.message()?;
            if let Some(result) = message.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(failed(&error["desc"]));
            }
        }
    }

    /// Executes a command of the human monitor (`info usernet`) and gives its text.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn human_command(&mut self, line: &str) -> Result<String, Error> {
        let result = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(result.as_str().unwrap_or_default().to_owned())
    }

    fn message(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Error::Protocol("QEMU closed its QMP connection.".into())),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| Error::Protocol(format!("QMP: {error} in {line}"))),
            Err(error) => Err(Error::Protocol(format!("QMP: {error}"))),
        }
    }
}
