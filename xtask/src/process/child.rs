//! A child process that cannot outlive us.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The time between two looks whether a wait is over.
pub const POLL: Duration = Duration::from_millis(20);

/// A child that watches its standard input and ends when that does.
///
/// We hold the other end and never write to it. The kernel closes it when we die, of whatever, so
/// that even a `kill -9` of xtask leaves nothing behind. The child leads a process group of its
/// own: Ctrl-C at a terminal goes to the whole foreground group, and it is for us to say when and
/// how a child ends.
pub struct ChildGuard {
    child: Child,
    _stdin: Option<ChildStdin>,
    status: Option<ExitStatus>,
}

impl ChildGuard {
    /// Starts the command with a pipe as its standard input.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        let stdin = child.stdin.take();
        Ok(Self { child, _stdin: stdin, status: None })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The reading end of the child's standard output, once, if the command had it piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The status with which the child ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child of ours that was not waited for can be");
        }
        self.status
    }

    /// Waits until the child has ended, at most until `deadline`.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            let status = self.ended();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(POLL);
        }
    }

    /// Asks the child to stop (SIGTERM). It may have ended already.
    pub fn terminate(&mut self) {
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// Ends the child and all of its process group at once (SIGKILL), and waits for it.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::ExitStatusExt;
    use std::sync::mpsc;

    use super::*;

    /// Far longer than any of these takes: a test that fails says so rather than hang.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Long enough for a `cat` without input to end. The right code passes however short it is.
    const MOMENT: Duration = Duration::from_millis(300);

    /// `cat` ends when its standard input does, as our nodes do.
    fn kept_cat() -> ChildGuard {
        ChildGuard::spawn(Command::new("cat").stdout(Stdio::piped())).unwrap()
    }

    #[test]
    fn a_child_lives_while_it_is_kept() {
        assert_eq!(kept_cat().wait_until(Instant::now() + MOMENT), None);
    }

    #[test]
    fn terminate_is_sigterm() {
        let mut cat = kept_cat();
        cat.terminate();
        let status = cat.wait_until(Instant::now() + PATIENCE);
        assert_eq!(status.unwrap().signal(), Some(15));
    }

    #[test]
    fn a_dropped_child_is_gone_though_it_does_not_look_at_its_input() {
        let mut sleep = ChildGuard::spawn(Command::new("sleep").arg("1000").stdout(Stdio::piped())).unwrap();
        let stdout = sleep.take_stdout().unwrap();
        drop(sleep);
        assert_eq!(until_closed(stdout), "");
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        assert_eq!(kept_cat().wait_until(Instant::now()), None);
    }

    /// The test below starts this test program again, to be the supervisor that gets killed.
    #[test]
    fn supervisor_of_the_next_test() {
        if env::var_os("XTASK_TEST_SUPERVISE").is_none() {
            return;
        }
        let cat = ChildGuard::spawn(&mut Command::new("cat")).unwrap();
        println!("keeping {}", cat.id());
        // Until we are killed; or until the test is, for nobody else would end us then.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).unwrap();
    }

    #[test]
    fn a_supervisor_killed_with_9_leaves_no_child() {
        let mut supervisor = Command::new(env::current_exe().unwrap());
        supervisor.args(["--exact", "process::child::tests::supervisor_of_the_next_test", "--nocapture"]);
        supervisor.env("XTASK_TEST_SUPERVISE", "1").stdout(Stdio::piped());
        let mut supervisor = ChildGuard::spawn(&mut supervisor).unwrap();
        let mut stdout = BufReader::new(supervisor.take_stdout().unwrap());
        let mut line = String::new();
        while !line.contains("keeping") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the supervisor ended before its child started");
        }
        supervisor.kill();
        // `cat` holds the pipe's last writing end: its end is the end of `cat`.
        assert_eq!(until_closed(stdout), "");
    }

    fn until_closed(mut stdout: impl Read + Send + 'static) -> String {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            sender.send(rest)
        });
        receiver.recv_timeout(PATIENCE).expect("the child ends when nobody keeps it")
    }
}
