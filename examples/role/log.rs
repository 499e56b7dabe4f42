//! The log on standard error, which never makes the node wait.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// The most bytes of lines that wait to be written.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// The bytes below which lines are taken again after some were dropped. Between the two, each line
/// read would be followed by a line about one dropped.
const QUEUE_BYTES_RESUME: usize = QUEUE_BYTES_MAX / 2;
/// The time that a process about to exit waits for its last lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// A queue of lines and the thread that writes them. Clones share it.
///
/// Lines that find the queue full are dropped and counted, and the count is a line of its own when
/// there is room again. A terminal that is held, or a pipe that nobody reads, blocks that thread
/// alone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Lines have come, or all are written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread is writing a line that has left the queue.
    is_writing: bool,
    is_full: bool,
    /// The lines dropped that no line has told of yet.
    untold: u64,
    /// The lines dropped since the start.
    dropped: u64,
}

impl Log {
    /// Starts the thread that writes to `out`.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Log(Arc::default());
        let shared = log.0.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all_to(out))?;
        Ok(log)
    }

    /// Adds a line, which has its end already.
    pub fn add(&self, line: &[u8]) {
        self.0.lock().add(line);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, or for as long as a reader is given.
    pub fn flush(&self) {
        let is_written = |queue: &mut Queue| !queue.is_written();
        // Whatever a lock was poisoned by, there is nothing more to do.
        drop(self.0.changed.wait_timeout_while(self.0.lock(), FLUSH_MAX, is_written));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        loop {
            let line = self.next_line();
            // A reader that has gone misses the line, and there is nobody else to tell.
            let _ = out.write_all(&line).and_then(|()| out.flush());
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.next() {
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn add(&mut self, line: &[u8]) {
        self.is_full |= self.bytes + line.len() > QUEUE_BYTES_MAX;
        if self.is_full {
            self.untold += 1;
            self.dropped += 1;
            return;
        }
        self.push(line.to_vec());
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.pop_front();
        self.bytes -= line.as_ref().map_or(0, Vec::len);
        if self.bytes <= QUEUE_BYTES_RESUME && self.is_full {
            self.is_full = false;
            // Behind the lines that came before those dropped.
            let (untold, dropped) = (std::mem::take(&mut self.untold), self.dropped);
            self.push(format!("{untold} lines of the log were dropped, {dropped} in all: nobody read them\n").into());
        }
        line.or_else(|| self.lines.pop_front().inspect(|line| self.bytes -= line.len()))
    }

    fn is_written(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(self)
    }
}

/// A writer to which the subscriber writes one line at a time.
pub struct Lines<'a>(&'a Log);

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, sync::mpsc};

    use super::*;

    #[test]
    fn lines_are_written_in_their_order_before_a_flush_ends() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = Log::to(writer).unwrap();
        let lines: Vec<String> = (0..100).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            log.add(line.as_bytes());
        }
        log.flush();
        let mut written = vec![0; lines.concat().len()];
        reader.read_exact(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), lines.concat());
        assert!(log.0.lock().is_written());
    }

    /// A reader that takes a line whenever it is told to.
    struct Held(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Held {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_their_count_is_told() {
        let ((read, held), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let log = Log::to(Held(held, written)).unwrap();
        let line = "x".repeat(QUEUE_BYTES_MAX / 4 - 1) + "\n";
        log.add(b"first\n");
        read.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), "first\n");
        // One is being written or waits, so four or five find room.
        for _ in 0..20 {
            log.add(line.as_bytes());
        }
        assert!((15..=16).contains(&log.0.lock().dropped), "{}", log.0.lock().dropped);
        log.flush();
        drop(read);
        let told = lines.iter().find(|line| line.contains("dropped")).unwrap();
        let dropped = log.0.lock().dropped;
        assert_eq!(told, format!("{dropped} lines of the log were dropped, {dropped} in all: nobody read them\n"));
        log.add(b"last\n");
        assert!(lines.iter().any(|line| line == "last\n"), "there is room again");
    }
}
