//! Whether the translation walks over the operators as the scan did ([`crate::uniform::control_walk`]).

use super::Translator;
use crate::error::Error;
use crate::uniform::control_walk::WalkPosition;

impl Translator<'_, '_, '_> {
    /// Where the walk stands.
    fn position(&self) -> WalkPosition {
        WalkPosition::new(self.ctl.len(), self.stack.len(), self.pushed)
    }

    /// At a point: the scan must have stood at the same place, else what is live here and its homes are another
    /// frame's.
    pub(super) fn compare_at_point(&mut self, point: u32) {
        self.points += 1;
        let (here, scan) = (self.position(), self.scan.points[point as usize].position);
        if here != scan {
            self.disagree(&format!("{here:?} at point {point}, {scan:?} in the scan"));
        }
    }

    /// At the end: the scan must have stood at the same place, and found the same points.
    pub(super) fn compare_end(&mut self) {
        let (here, scan) = (self.position(), self.scan.end);
        if here != scan {
            self.disagree(&format!("{here:?} at the end, {scan:?} in the scan"));
        }
        if self.points != self.scan.points.len() {
            let (here, scan) = (self.points, self.scan.points.len());
            self.disagree(&format!("{here} points, {scan} in the scan"));
        }
    }

    /// Notes a difference between the walks; the first one is told.
    pub(super) fn disagree(&mut self, what: &str) {
        self.disagreement.get_or_insert_with(|| what.to_owned());
    }

    /// An internal error if this walk and the scan's have differed.
    pub(super) fn check_walk(&mut self) -> Result<(), Error> {
        match self.disagreement.take() {
            None => Ok(()),
            Some(what) => {
                let index = self.b.func.name.get_user().map_or(0, |name| name.index);
                Err(Error::internal(
                    index,
                    format!("the translation has left the scan: {what}"),
                ))
            }
        }
    }
}
