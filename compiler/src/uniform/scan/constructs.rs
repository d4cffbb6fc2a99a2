//! Constructs of control: `block`, `loop`, `if` and `try`, their labels, and branches to them.

use super::Scanner;
use crate::error::Error;
use crate::module::types::block_type;
use crate::uniform::control_walk::ConstructKind;
use crate::uniform::{BlockId, NONE};
use dunlin_format::framemap::Callee;
use dunlin_format::point::PointKind;
use dunlin_format::types::ValType;

/// A construct that is open.
pub(super) struct Control {
    pub(super) kind: ConstructKind,
    pub(super) params: Vec<ValType>,
    pub(super) results: Vec<ValType>,
    /// Operand-stack height below the block's parameters.
    pub(super) height: usize,
    /// Branch target: the header of a loop, the block after any other; [`NONE`] for the function.
    pub(super) label: BlockId,
    /// Whether anything branches (or falls) to the label of a non-loop.
    pub(super) label_used: bool,
    /// Whether the code before the construct can be reached.
    pub(super) outer_live: bool,
    /// The operator that opened it.
    pub(super) start_op: u32,
    /// Where an `if` goes if its condition is false.
    pub(super) else_block: BlockId,
    /// The first event in it.
    pub(super) first_event: u32,
    /// Where exceptions arrive: those of the body (`TryTable`, `Try`), or those that no clause so far takes (`Catch`).
    pub(super) pad: BlockId,
    /// Where exceptions arrive that are thrown around the construct.
    pub(super) outer_pad: BlockId,
    /// The clauses of a `try_table`, in order.
    pub(super) catches: Vec<wasmparser::Catch>,
    /// The operator of the legacy clause that is open (`Catch`).
    pub(super) clause: u32,
}

impl Scanner<'_, '_> {
    /// A branch to the label of the construct at a depth.
    pub(super) fn branch(&mut self, depth: u32) {
        let k = self.ctl.len() - 1 - depth as usize;
        let c = &mut self.ctl[k];
        c.label_used = true;
        let (label, n) = (
            c.label,
            if c.kind == ConstructKind::Loop {
                c.params.len()
            } else {
                c.results.len()
            },
        );
        self.peek_n(n);
        if label == NONE {
            self.use_ctx_to_return();
        }
        self.edge(label);
    }

    /// Opens a construct whose operator has been read.
    pub(super) fn open(
        &mut self,
        kind: ConstructKind,
        ty: wasmparser::BlockType,
        catches: Vec<wasmparser::Catch>,
        offset: u32,
    ) -> Result<(), Error> {
        let (params, results) = block_type(ty, &self.rq.module.info.types)
            .ok_or_else(|| Error::unsupported("this type of block", offset as usize))?;
        let start_op = self.s.ops.len() as u32 - 1;
        let outer_live = self.live;
        let mut label = NONE;
        let mut else_block = NONE;
        let mut pad = NONE;
        if self.live {
            if kind == ConstructKind::If {
                self.pop();
            }
            self.pop_n(params.len());
        }
        let height = self.stack.len();
        let first_event = self.s.events.len() as u32;
        if self.live {
            label = self.new_block();
            self.s.blocks[label as usize].since = first_event;
            match kind {
                ConstructKind::Loop => {
                    self.edge(label);
                    self.start(label);
                    self.s.blocks[label as usize].loop_op = Some(start_op);
                    self.s.block_of_op.insert(start_op, label);
                }
                ConstructKind::If => {
                    let then = self.new_block();
                    else_block = self.new_block();
                    self.edge(then);
                    self.edge(else_block);
                    self.start(then);
                }
                ConstructKind::TryTable | ConstructKind::Try => {
                    pad = self.new_block();
                    self.s.blocks[pad as usize].since = first_event;
                    self.s.pad_of_op.insert(start_op, pad);
                }
                _ => {}
            }
            for &t in &params {
                self.push(t);
            }
            if kind == ConstructKind::Loop && self.rq.migration {
                let p = self.point(offset, PointKind::Loop, Callee::None);
                self.s.point_of_op.insert(start_op, p);
            }
        }
        let outer_pad = self.pad_within(self.ctl.len());
        self.ctl.push(Control {
            kind,
            params,
            results,
            height,
            label,
            label_used: false,
            outer_live,
            start_op,
            else_block,
            first_event,
            pad,
            outer_pad,
            catches,
            clause: NONE,
        });
        Ok(())
    }

    /// The `else` of an `if`.
    pub(super) fn op_else(&mut self) {
        let op = self.s.ops.len() as u32 - 1;
        let Some(mut c) = self.ctl.pop() else { return };
        if self.live {
            self.peek_n(c.results.len());
            self.edge(c.label);
            c.label_used = true;
        }
        self.truncate(c.height);
        self.close();
        self.live = c.outer_live;
        if self.live {
            self.start(c.else_block);
            self.s.block_of_op.insert(op, c.else_block);
            for &t in &c.params {
                self.push(t);
            }
        }
        c.kind = ConstructKind::Else;
        self.ctl.push(c);
    }

    /// The end of a construct; `delegate` is the depth that a legacy `delegate` passes exceptions to.
    pub(super) fn op_end(&mut self, delegate: Option<u32>) {
        let op = self.s.ops.len() as u32 - 1;
        if self.live && self.ctl.len() == 1 {
            self.use_ctx_to_return();
        }
        let Some(c) = self.ctl.pop() else { return };
        if c.start_op != NONE {
            self.s.end_of.insert(c.start_op, op);
        }
        if self.live {
            self.peek_n(c.results.len());
        }
        match c.kind {
            ConstructKind::Func => {
                self.close();
                self.truncate(0);
                self.live = false;
            }
            ConstructKind::Loop => {
                self.s
                    .loop_events
                    .insert(c.start_op, c.first_event..self.s.events.len() as u32);
                self.truncate(c.height);
                if self.live {
                    c.results.iter().for_each(|&t| self.push(t));
                }
            }
            ConstructKind::Block
            | ConstructKind::If
            | ConstructKind::Else
            | ConstructKind::TryTable
            | ConstructKind::Try
            | ConstructKind::Catch => {
                let mut used = c.label_used;
                if self.live {
                    self.edge(c.label);
                    used = true;
                }
                if c.pad != NONE {
                    self.land(&c, delegate);
                }
                if c.kind == ConstructKind::If && c.outer_live {
                    // No `else`: the false edge passes the parameters on as results.
                    self.truncate(c.height);
                    self.start(c.else_block);
                    for &t in &c.params {
                        self.push(t);
                    }
                    self.peek_n(c.params.len());
                    self.edge(c.label);
                    used = true;
                }
                self.truncate(c.height);
                self.close();
                self.live = used;
                if used {
                    self.start(c.label);
                    self.s.block_of_op.insert(op, c.label);
                    c.results.iter().for_each(|&t| self.push(t));
                }
            }
        }
    }
}
