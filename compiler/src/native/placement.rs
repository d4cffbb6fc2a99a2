//! Where a function's variables are: in registers, in the record, or in memory all the time.
//!
//! [`merge_states`] decides what is in registers where paths meet, [`fanout`] for merges that very many edges from the
//! same code lead to, and [`memory_residents`] takes variables out of registers for good in functions that have too
//! many. All of it only chooses: the translation makes every edge fit, and neither points, homes nor live sets depend
//! on it.

mod fanout;
pub(crate) mod memory_residents;
pub(crate) mod merge_states;

use crate::uniform::{Analysis, liveness, loops};
use memory_residents::MemoryResidents;
use merge_states::MergeStates;

/// What is chosen for a function.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// What is in registers where paths meet.
    pub merges: MergeStates,
    /// Variables that are in memory all the time.
    pub residents: MemoryResidents,
}

/// Chooses. `max_alive` is [`crate::Settings::max_alive`].
pub(crate) fn choose(an: &Analysis<'_>, max_alive: usize) -> Placement {
    let (s, record) = (&an.scan, &an.record);
    let mut placement = Placement::default();
    if !s.points.is_empty() {
        let loops = loops::loop_infos(s);
        let anticipated = liveness::anticipated_in(s);
        let merges = |residents: &MemoryResidents| merge_states::choose(an, &anticipated, &loops, residents);
        placement.merges = merges(&placement.residents);
        placement.residents = memory_residents::choose(s, &an.live_in, &placement.merges, record, max_alive);
        if !placement.residents.is_empty() {
            placement.merges = merges(&placement.residents);
        }
    } else if memory_residents::possible(s, max_alive) {
        placement.residents = match memory_residents::too_large(s) {
            true => memory_residents::everything(s, record),
            false => memory_residents::choose(s, &liveness::live_in(s), &placement.merges, record, max_alive),
        };
    }
    placement
}
