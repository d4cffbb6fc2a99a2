//! The scan's part of exceptions: edges from calls to the pads of `try` constructs, and what becomes of what arrives
//! there. The translation's part, which makes the same pushes in the same order, is
//! `native/translate/exceptions.rs`.

use super::constructs::Control;
use super::{Event, Scanner, VarInfo};
use crate::uniform::control_walk::{CatchClause, ConstructKind};
use crate::uniform::{BlockId, NONE, Var};
use dunlin_format::framemap::{Callee, HomeKind};
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::ValType;

impl Scanner<'_, '_> {
    /// A call: a migration point, with an edge to where its exceptions are handled in this function.
    pub(super) fn call(&mut self, offset: u32, index: u32, callee: Callee) {
        if self.rq.migration {
            let p = self.point(offset, PointKind::Call, callee);
            self.s.point_of_op.insert(index, p);
        }
        let pad = self.pad_within(self.ctl.len());
        if pad != NONE {
            self.edge(pad);
            let next = self.new_block();
            self.edge(next);
            self.start(next);
        }
    }

    /// Throws: a point like a call's, so that what a handler needs is in the record; but nothing stands there when
    /// captured.
    pub(super) fn throw(&mut self, offset: u32, index: u32) {
        self.use_ctx();
        if self.rq.migration {
            let p = self.point(offset, PointKind::Call, Callee::None);
            self.s.point_of_op.insert(index, p);
        }
        let pad = self.pad_within(self.ctl.len());
        self.edge(pad);
        self.unreachable_from_here();
    }

    /// Where exceptions that are thrown within the outermost `depth` constructs arrive; [`NONE`] if they leave the
    /// function.
    pub(super) fn pad_within(&self, depth: usize) -> BlockId {
        let Some(c) = depth.checked_sub(1).map(|k| &self.ctl[k]) else {
            return NONE;
        };
        if c.kind.handles_exceptions() {
            c.pad
        } else {
            c.outer_pad
        }
    }

    /// The end of a construct with handlers: what becomes of exceptions that arrive at its pad. The construct is closed
    /// already.
    pub(super) fn land(&mut self, c: &Control, delegate: Option<u32>) {
        self.truncate(c.height);
        self.close();
        if self.s.blocks[c.pad as usize].preds == 0 {
            return;
        }
        self.start(c.pad);
        self.use_ctx();
        let mut caught = false;
        for clause in c.catches.iter().map(CatchClause::from) {
            self.push_payload(clause.tag);
            if clause.by_reference {
                self.push(ValType::ExnRef);
            }
            self.branch(clause.label);
            self.truncate(c.height);
            caught = clause.tag.is_none();
            if caught {
                break;
            }
        }
        if !caught {
            let within = self.ctl.len() - delegate.unwrap_or(0) as usize;
            let outer = self.pad_within(within);
            self.edge(outer);
        }
        self.close();
    }

    /// What a clause for a tag gets: its exceptions' values.
    fn push_payload(&mut self, tag: Option<u32>) {
        let info = &self.rq.module.info;
        if let Some(tag) = tag {
            let ty = &info.types[info.tags[tag as usize] as usize];
            ty.params.iter().for_each(|&t| self.push(t));
        }
    }

    /// A legacy `catch` for a tag, or `catch_all`: it begins where exceptions of the `try` arrive.
    pub(super) fn op_catch(&mut self, tag: Option<u32>) {
        let op = self.s.ops.len() as u32 - 1;
        let Some(mut c) = self.ctl.pop() else { return };
        if self.live {
            self.peek_n(c.results.len());
            self.edge(c.label);
            c.label_used = true;
        }
        self.truncate(c.height);
        self.close();
        let from = std::mem::replace(&mut c.pad, NONE);
        self.live = from != NONE && self.s.blocks[from as usize].preds > 0;
        c.kind = ConstructKind::Catch;
        c.clause = op;
        if self.live {
            self.start(from);
            self.use_ctx();
            let body = self.new_block();
            self.edge(body);
            if tag.is_some() {
                c.pad = self.new_block();
                self.edge(c.pad);
            }
            self.start(body);
            self.use_ctx();
            let var = self.caught_var(self.ctl.len());
            self.s.caught_var.insert(op, var);
            self.event(Event::Def(var));
            self.push_payload(tag);
        }
        self.ctl.push(c);
    }

    /// The variable that holds the exception caught at a nesting depth: a local that the function didn't declare.
    fn caught_var(&mut self, depth: usize) -> Var {
        let number = self.s.num_locals + self.caught_vars.len() as u32;
        let vars = &mut self.s.vars;
        *self.caught_vars.entry(depth).or_insert_with(|| {
            vars.push(VarInfo {
                kind: HomeKind::Slot(Slot::Local(number)),
                ty: ValType::ExnRef,
            });
            vars.len() as u32 - 1
        })
    }
}
