//! Loops that poll: the *latch*, the block through which a loop goes round.
//!
//! A loop polls where it goes round, not where it begins, and a program that the poll has stopped goes on *from outside
//! the loop*:
//!
//! ```text
//!   outside:  jump header            <- from before the loop, and from stop
//!   header:   the body
//!   latch:    flag set? stop, else header
//!   stop:     store, call the runtime, load; jump outside
//! ```
//!
//! So the values that are loaded anew meet the others before the loop, and what the loop doesn't change is one value
//! throughout it, which the optimiser can compute with once, before the loop. (Were they to meet inside the loop, every
//! variable would change in it.)
//!
//! The `stop` block is not marked cold: behind the latch, it makes the branch back the only one that a round takes, and
//! it is out of the loop already.

use super::Translator;
use super::branches::args;
use super::operands::Operand;
use crate::native::signatures::clif_type;
use crate::uniform::bitset::has;
use crate::uniform::{BlockId, NONE};
use cranelift_codegen::ir::{Block, InstBuilder, SourceLoc, Value};
use dunlin_format::types::ValType;

/// The parts of a loop that polls, besides the block that its branches go to.
#[derive(Debug)]
pub(crate) struct Latch {
    point: u32,
    /// Byte offset of the `loop` operator, which names the point.
    offset: u32,
    outside: Block,
    header: Block,
    /// The loop's parameters, as operands at its header.
    params: Vec<Operand>,
    types: Vec<ValType>,
    /// Whether any branch goes back to the loop.
    pub(super) reached: bool,
}

impl Latch {
    /// The block before the loop, through which the program goes on after a stop.
    pub(super) fn outside(&self) -> Block {
        self.outside
    }

    /// The first block of the loop's body.
    pub(super) fn header(&self) -> Block {
        self.header
    }

    /// Sets the operands that the loop's parameters are at its header.
    pub(super) fn set_params(&mut self, params: Vec<Operand>) {
        self.params = params;
    }
}

impl Translator<'_, '_, '_> {
    /// Goes from before a loop into its `outside` block. `latch` is the block that branches to the loop go to.
    pub(super) fn open_latch(
        &mut self,
        point: u32,
        offset: u32,
        latch: Block,
        types: &[ValType],
        values: &[Value],
    ) -> Latch {
        let (outside, header) = (self.b.create_block(), self.b.create_block());
        for block in [outside, header] {
            for &ty in types {
                self.b.append_block_param(block, clif_type(ty));
            }
        }
        debug_assert_eq!(self.b.block_params(latch).len(), types.len());
        self.b.ins().jump(outside, &args(values));
        self.b.switch_to_block(outside);
        Latch {
            point,
            offset,
            outside,
            header,
            params: vec![],
            types: types.to_vec(),
            reached: false,
        }
    }

    /// The end of a loop: all branches to `latch` are known.
    pub(super) fn close_latch(&mut self, polled: Latch, latch: Block, label: BlockId) {
        let after = self.live.then(|| self.b.create_block());
        if let Some(after) = after {
            self.b.ins().jump(after, &[]);
        }
        let (state, srcloc) = (self.state.clone(), self.b.srcloc());
        self.b.seal_block(latch);
        if polled.reached {
            self.b.set_srcloc(SourceLoc::new(polled.offset));
            self.b.switch_to_block(latch);
            self.enter_state(label);
            let values = self.b.block_params(latch).to_vec();
            for (operand, &value) in polled.params.iter().zip(&values) {
                if let Operand::Var(v) = *operand {
                    self.set(v, value);
                }
            }
            let flag = self.poll_flag();
            let stop = self.b.create_block();
            self.b.ins().brif(flag, stop, &[], polled.header, &args(&values));
            self.b.switch_to_block(stop);
            self.b.seal_block(stop);
            self.poll_runtime(polled.point, NONE);
            let values = self.reloaded(&polled);
            self.b.ins().jump(polled.outside, &args(&values));
        }
        self.b.seal_block(polled.outside);
        self.b.seal_block(polled.header);
        self.b.set_srcloc(srcloc);
        self.state = state;
        if let Some(after) = after {
            self.b.switch_to_block(after);
            self.b.seal_block(after);
        }
    }

    /// The loop's parameters after its poll. One that nothing reads was not stored: any value will do.
    fn reloaded(&mut self, polled: &Latch) -> Vec<Value> {
        let live = self.across.at(polled.point as usize).to_vec();
        let params = polled.params.iter().zip(&polled.types);
        params
            .map(|(operand, &ty)| match *operand {
                Operand::Var(v) if has(&live, v) => self.get(v),
                _ => self.zero(clif_type(ty)),
            })
            .collect()
    }
}
