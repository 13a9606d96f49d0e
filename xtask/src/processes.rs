//! Child processes that never outlive this one.
//!
//! In: commands. Out: running children whose output goes to log files. Invariant: when this
//! process ends, however it ends (return, panic, Ctrl-C, SIGKILL), a small shell notices that its
//! standard input was closed, kills the children and removes the temporary folder. That needs no
//! signal handler and no unsafe code.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Failure;

/// Reads process ids until the pipe closes, then ends them in the reverse order of their start.
const REAPER: &str = r#"
while read -r pid; do pids="$pid $pids"; done
for pid in $pids; do kill "$pid" 2>/dev/null; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    alive=
    for pid in $pids; do kill -0 "$pid" 2>/dev/null && alive=1; done
    [ -z "$alive" ] && break
    sleep 0.2
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
rm -rf "$1"
"#;

/// A group of children and the shell that ends them.
pub(crate) struct Processes {
    reaper: Child,
    pipe: Option<ChildStdin>,
    logs: PathBuf,
    children: Vec<(&'static str, Child)>,
}

impl Processes {
    /// `folder` is removed at the end; `logs` stays.
    pub(crate) fn new(folder: &Path, logs: &Path) -> Result<Self, Failure> {
        let mut reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: Ctrl-C must not end it before its work begins.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run `sh`: {error}"))?;
        let pipe = reaper.stdin.take();
        Ok(Self {
            reaper,
            pipe,
            logs: logs.to_owned(),
            children: Vec::new(),
        })
    }

    /// Starts a child, its output going to `<logs>/<name>.log`.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        command: &mut Command,
    ) -> Result<(), Failure> {
        let path = self.log(name);
        let log = File::create(&path)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let pipe = self.pipe.as_mut().ok_or("the reaper has no pipe")?;
        writeln!(pipe, "{}", child.id()).map_err(|error| format!("the reaper is gone: {error}"))?;
        self.children.push((name, child));
        Ok(())
    }

    /// Fails when a child has ended by itself, with the end of its log.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                let path = self.logs.join(format!("{name}.log"));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(15)..].join("\n");
                return Err(format!(
                    "{name} ended ({status}); the end of `{}`:\n{end}",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Children that were killed stay as zombies until they are waited for, and the reaper
        // would take them for alive.
        for (_, child) in &mut self.children {
            let _ended = child.wait();
        }
        let _ended = self.reaper.wait();
    }
}
