//! The signals a program can be asked to checkpoint on, by name.

/// A signal that may be given to `--checkpoint-on`: one that other programs send, and that nothing here needs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The terminal has gone away.
    Hup,
    /// Interrupt from the terminal (Ctrl-C).
    Int,
    /// Quit from the terminal (Ctrl-\\).
    Quit,
    /// The first of two for whatever a user likes.
    Usr1,
    /// The second of them.
    Usr2,
    /// A timer has run out.
    Alrm,
    /// A request to end, as batch systems send it.
    Term,
    /// Stop from the terminal (Ctrl-Z).
    Tstp,
    /// The processor time that was granted is used up.
    Xcpu,
    /// Power fails.
    Pwr,
}

impl Signal {
    /// Every such signal.
    pub const ALL: [Signal; 10] = [
        Signal::Hup,
        Signal::Int,
        Signal::Quit,
        Signal::Usr1,
        Signal::Usr2,
        Signal::Alrm,
        Signal::Term,
        Signal::Tstp,
        Signal::Xcpu,
        Signal::Pwr,
    ];

    /// The signal of a name, with or without `SIG`.
    pub fn from_name(name: &str) -> Option<Signal> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        Signal::ALL.into_iter().find(|s| s.name() == name)
    }

    /// The name without `SIG`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Quit => "QUIT",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            Signal::Alrm => "ALRM",
            Signal::Term => "TERM",
            Signal::Tstp => "TSTP",
            Signal::Xcpu => "XCPU",
            Signal::Pwr => "PWR",
        }
    }

    /// The number on this machine.
    pub fn number(self) -> i32 {
        match self {
            Signal::Hup => libc::SIGHUP,
            Signal::Int => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Usr1 => libc::SIGUSR1,
            Signal::Usr2 => libc::SIGUSR2,
            Signal::Alrm => libc::SIGALRM,
            Signal::Term => libc::SIGTERM,
            Signal::Tstp => libc::SIGTSTP,
            Signal::Xcpu => libc::SIGXCPU,
            Signal::Pwr => libc::SIGPWR,
        }
    }
}
