//! What happens at migration points, as far as the engine knows it: whoever asks for snapshots implements this.

use super::running::{Flow, Running};

/// Has its turn wherever the program can be stopped. The program stands still meanwhile: all of it is in the uniform
/// layout.
pub(crate) trait AtPoint: std::fmt::Debug {
    /// Compiled code has reached a migration point, and reports it because a request is pending or every point is to be
    /// reported.
    fn at_point(&mut self, running: &mut Running) -> Flow;

    /// A request is pending while the program waits in a host call, which was undone.
    fn in_host_call(&mut self, running: &mut Running) -> Flow;

    /// The linear memories take this many bytes now.
    fn memory_size(&mut self, bytes: u64);

    /// Migration points passed so far, if every one is reported.
    fn points(&self) -> u64;
}

impl Running {
    /// See [`AtPoint::at_point`].
    pub(super) fn at_point(&mut self) -> Flow {
        self.with_at_point(|it, running| it.at_point(running))
    }

    /// See [`AtPoint::in_host_call`].
    pub(super) fn in_host_call(&mut self) -> Flow {
        self.with_at_point(|it, running| it.in_host_call(running))
    }

    fn with_at_point(&mut self, turn: impl FnOnce(&mut dyn AtPoint, &mut Running) -> Flow) -> Flow {
        let Some(mut at_point) = self.at_point.take() else {
            return Flow::Go;
        };
        let flow = turn(&mut *at_point, self);
        self.at_point = Some(at_point);
        flow
    }
}
