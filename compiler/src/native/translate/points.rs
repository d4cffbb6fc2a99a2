//! Migration points in CLIF: stores before, loads after, polls, and edges that fit their merge.

use super::{SigKey, Translator};
use crate::native::signatures::clif_type;
use crate::uniform::bitset::members;
use crate::uniform::{BlockId, Var};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types::I32};
use dunlin_format::context::OFF_POLL;
use dunlin_format::hostcalls;

/// What an edge must do for one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fixup {
    /// Load it from its home.
    Load(Var),
    /// Store it to its home.
    Store(Var),
}

impl Translator<'_, '_, '_> {
    /// Flags of accesses to homes.
    fn record_flags(&self) -> MemFlagsData {
        self.context_flags().with_alias_region(Some(self.regions.record))
    }

    /// Address and offset of a variable's home. A variable that is live across a point has one by construction; one
    /// without may be in memory all the same.
    fn home(&self, v: Var) -> (Value, i32) {
        let (addr, offset) = match self.placement.residents.offset(v) {
            Some(offset) => (self.memory_addr, Some(offset)),
            None => (self.record_addr, self.an.record.home(v)),
        };
        let addr = addr.expect("a function with homes has a record");
        (addr, offset.expect("a variable outside registers has a home") as i32)
    }

    /// Loads a variable from its home into a register.
    pub(super) fn load_home(&mut self, v: Var) {
        let value = self.home_value(v);
        self.b.def_var(self.vars[v as usize], value);
        self.state.reg.add(v);
    }

    /// The value in a variable's home.
    pub(super) fn home_value(&mut self, v: Var) -> Value {
        let (addr, offset) = self.home(v);
        let ty = clif_type(self.scan.vars[v as usize].ty);
        let flags = self.record_flags();
        self.b.ins().load(ty, flags, addr, offset)
    }

    /// Stores a variable from its register to its home.
    fn store_home(&mut self, v: Var) {
        let value = self.b.use_var(self.vars[v as usize]);
        self.store_value(v, value);
    }

    /// Stores a value to a variable's home.
    pub(super) fn store_value(&mut self, v: Var, value: Value) {
        let (addr, offset) = self.home(v);
        let flags = self.record_flags();
        self.b.ins().store(flags, value, addr, offset);
    }

    /// Before a call: brings the homes of all that is live across it up to date.
    pub(super) fn flush(&mut self, point: u32) {
        self.compare_at_point(point);
        let clean = self.state.clean.words();
        let stale = self
            .across
            .at(point as usize)
            .iter()
            .zip(clean)
            .map(|(live, clean)| live & !clean);
        for v in collect(stale) {
            self.store_home(v);
            self.state.clean.add(v);
        }
    }

    /// After a call: nothing is in a register any more.
    pub(super) fn after_call(&mut self) {
        self.state.reg.clear();
    }

    /// A poll in its place, as at a function's entry: falls through unless the flag is set. Variables from `constant`
    /// on hold constants, as locals do before anything is assigned.
    pub(super) fn poll(&mut self, point: u32, constant: Var) {
        self.compare_at_point(point);
        let (on, cold) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        let flag = self.poll_flag();
        self.b.ins().brif(flag, cold, &[], on, &[]);
        self.b.switch_to_block(cold);
        self.b.seal_block(cold);
        self.poll_runtime(point, constant);
        self.b.ins().jump(on, &[]);
        self.b.switch_to_block(on);
        self.b.seal_block(on);
    }

    /// The flag that polls test: not 0 if the runtime is to be called.
    pub(super) fn poll_flag(&mut self) -> Value {
        let ctx = self.ctx();
        // No alias region: the runtime sets the flag at any time.
        self.b.ins().load(I32, MemFlagsData::trusted(), ctx, OFF_POLL)
    }

    /// What a poll does if its flag is set: stores, calls the runtime, and loads again, but for variables from
    /// `constant` on.
    pub(super) fn poll_runtime(&mut self, point: u32, constant: Var) {
        let reg = self.state.reg.words();
        let lost = collect(
            self.across
                .at(point as usize)
                .iter()
                .zip(reg)
                .map(|(live, reg)| live & reg),
        );
        for &v in &lost {
            if !self.state.clean.has(v) {
                self.store_home(v);
            }
        }
        self.leave(SigKey::Leave, hostcalls::POLL);
        for &v in lost.iter().filter(|&&v| v < constant) {
            let value = self.home_value(v);
            self.b.def_var(self.vars[v as usize], value);
        }
    }

    /// What must be done on an edge from here to `target`, so that what was chosen for `target` holds there.
    pub(super) fn fixups(&mut self, target: BlockId) -> Vec<Fixup> {
        if !self.env.migration || self.scan.points.is_empty() {
            return vec![];
        }
        let Some(there) = self.placement.merges.at.get(&target) else {
            // One predecessor: it starts as this edge ends.
            self.saved.insert(target, self.state.clone());
            return vec![];
        };
        let live = self.an.live_in.row(target).iter();
        let state = self.state.reg.words().iter().zip(self.state.clean.words());
        let there = there.reg.words().iter().zip(there.clean.words());
        let mut out = vec![];
        for (k, ((live, (reg, clean)), (reg_there, clean_there))) in (0..).zip(live.zip(state).zip(there)) {
            let (load, store) = (live & reg_there & !reg, live & clean_there & !clean);
            for v in members(&[load | store]) {
                let var = 64 * k + v;
                if load >> v & 1 != 0 {
                    out.push(Fixup::Load(var));
                }
                if store >> v & 1 != 0 && self.an.record.home(var).is_some() {
                    out.push(Fixup::Store(var));
                }
            }
        }
        out
    }

    /// Does what [`Translator::fixups`] found, in the current block.
    pub(super) fn apply(&mut self, fixups: &[Fixup]) {
        for &f in fixups {
            match f {
                Fixup::Load(v) => self.load_home(v),
                Fixup::Store(v) => {
                    self.store_home(v);
                    self.state.clean.add(v);
                }
            }
        }
    }

    /// The state at the start of a block.
    pub(super) fn enter_state(&mut self, block: BlockId) {
        if !self.env.migration || self.scan.points.is_empty() {
            return;
        }
        if let Some(st) = self.placement.merges.at.get(&block) {
            self.state = st.clone();
        } else if let Some(st) = self.saved.remove(&block) {
            self.state = st;
        }
    }
}

/// The members of the set of these words.
fn collect(words: impl Iterator<Item = u64>) -> Vec<Var> {
    let mut out = vec![];
    for (k, word) in (0..).zip(words) {
        out.extend(members(&[word]).map(|v| 64 * k + v));
    }
    out
}
