//! A terminal as a person has it: what a program printed, as it stands on the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rexpect::process::{PtyProcess, WaitStatus};

/// How long a busy machine may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What stands on the screen: as much of a terminal as a live display asks for.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Whether anything was coloured.
    pub is_coloured: bool,
    /// Bytes of a sequence or a character that has not come whole.
    rest: Vec<u8>,
}

impl Screen {
    pub fn new(columns: usize) -> Self {
        let lines = vec![Vec::new()];
        Self { columns, lines, row: 0, column: 0, is_coloured: false, rest: Vec::new() }
    }

    /// The lines, without blanks at their ends, down to the last that is not empty.
    pub fn text(&self) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    pub fn resize(&mut self, columns: usize) {
        self.columns = columns;
    }

    pub fn show(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut at = 0;
        while at < bytes.len() {
            let Some(length) = self.one(&bytes[at..]) else { break };
            at += length;
        }
        self.rest = bytes[at..].to_vec();
    }

    /// Takes one character or sequence; nothing if it is not whole.
    fn one(&mut self, bytes: &[u8]) -> Option<usize> {
        match bytes[0] {
            b'\r' => self.column = 0,
            b'\n' => self.down(1),
            0x1b if *bytes.get(1)? == b'[' => {
                let end = 2 + bytes[2..].iter().position(|byte| (0x40..0x7f).contains(byte))?;
                let text = String::from_utf8_lossy(&bytes[2..end]).into_owned();
                self.sequence(bytes[end], &text);
                return Some(end + 1);
            }
            0x1b => return Some(2),
            byte if byte < 0x20 => {}
            byte => {
                let length = match byte {
                    0xf0.. => 4,
                    0xe0.. => 3,
                    0xc0.. => 2,
                    _ => 1,
                };
                let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
                self.put(text.chars().next().unwrap_or(' '));
                return Some(length);
            }
        }
        Some(1)
    }

    fn put(&mut self, c: char) {
        if self.column >= self.columns {
            self.column = 0;
            self.down(1);
        }
        let line = &mut self.lines[self.row];
        while line.len() <= self.column {
            line.push(' ');
        }
        line[self.column] = c;
        self.column += 1;
    }

    fn down(&mut self, rows: usize) {
        self.row += rows;
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
    }

    fn sequence(&mut self, letter: u8, text: &str) {
        let number = text.parse().unwrap_or(1);
        match (letter, text) {
            (b'A', _) => self.row = self.row.saturating_sub(number),
            (b'B', _) => self.down(number),
            (b'C', _) => self.column += number,
            (b'D', _) => self.column = self.column.saturating_sub(number),
            (b'G', _) => self.column = number - 1,
            (b'K', "2") => self.lines[self.row].clear(),
            (b'K', _) => self.lines[self.row].truncate(self.column),
            (b'J', _) => {
                self.lines[self.row].truncate(self.column);
                self.lines.truncate(self.row + 1);
            }
            (b'm', "" | "0") => {}
            (b'm', _) => self.is_coloured = true,
            _ => {}
        }
    }
}

/// A program behind a terminal.
pub struct Terminal {
    process: PtyProcess,
    keys: File,
    pub screen: Arc<Mutex<Screen>>,
    reader: std::thread::JoinHandle<()>,
    name: String,
}

impl Terminal {
    pub fn start(command: Command, columns: usize) -> Self {
        // A terminal has its size before a program looks at it.
        let mut sized = Command::new("/bin/sh");
        sized.args(["-c", &format!("stty cols {columns} rows 24; tty; exec \"$@\""), "sh"]);
        sized.arg(command.get_program()).args(command.get_args()).env_clear();
        sized.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            sized.current_dir(dir);
        }
        let process = PtyProcess::new(sized).expect("a pseudo-terminal");
        let keys = process.get_file_handle().expect("its other side");
        let mut output = process.get_file_handle().expect("its other side");
        let screen = Arc::new(Mutex::new(Screen::new(columns)));
        let shown = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = output.read(&mut buffer) {
                if length == 0 {
                    return;
                }
                shown.lock().expect("no test panics here").show(&buffer[..length]);
            }
        });
        let mut terminal = Self { process, keys, screen, reader, name: String::new() };
        terminal.wait_for("/dev/pts/");
        // The first line says which terminal it is; it goes before the program begins to print.
        let text = terminal.text();
        terminal.name = text.lines().next().unwrap_or_default().trim().to_owned();
        terminal
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().expect("no test panics here").text()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !is_there(&self.text()) {
            assert!(began.elapsed() < PATIENCE, "waiting for {what}; there is:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Makes the window another width.
    pub fn resize(&self, columns: usize) {
        let status = Command::new("stty")
            .args(["-F", &self.name, "cols", &columns.to_string()])
            .status()
            .expect("stty");
        assert!(status.success());
        self.screen.lock().expect("no test panics here").resize(columns);
    }

    /// Waits for the end; returns the exit code and what stands on the screen, but for the line that
    /// named the terminal.
    #[track_caller]
    pub fn end(self) -> (i32, String) {
        let began = Instant::now();
        loop {
            match self.process.status() {
                Some(WaitStatus::Exited(_, code)) => {
                    // What is still on the way to the screen.
                    while !self.reader.is_finished() && began.elapsed() < PATIENCE {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    let text = self.text();
                    return (code, text.split_once('\n').map_or("", |(_, rest)| rest).to_owned());
                }
                Some(WaitStatus::StillAlive) => {}
                other => panic!("it ended as {other:?}:\n{}", self.text()),
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
