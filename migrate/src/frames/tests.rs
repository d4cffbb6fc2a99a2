//! Frame translation on made-up maps: two architectures with different frames, and stacks that lie.

use super::*;
use crate::state::Frame;
use crate::testing::*;
use dunlin_format::types::Value;

const BASE: u64 = 0x7f00_0000_0000;
const CTX: u64 = 0x1234_5678_9abc_def0;

/// `main` is of type 0.
const ENTRY: Entry = Entry {
    top: BASE + 0x2000,
    enter_return: 0xabcd,
    trampoline: 3,
    ctx: CTX,
};

fn rebuilt(maps: &FrameMaps<'_>, frames: &[Frame]) -> (Vec<u8>, u64) {
    let mut stack = vec![0x55; 0x2000];
    let leave_fp = rebuild(maps, BASE, &mut stack, &ENTRY, frames).unwrap();
    (stack, leave_fp)
}

#[test]
fn frames_survive_both_architectures() {
    let points = points();
    for (depth, host) in [(1, false), (1, true), (3, false), (3, true), (50, true)] {
        let frames = frames(depth, host);
        let mut stacks = Vec::new();
        for number in [0, 1, 0] {
            let arch = MadeUp::new(number);
            let maps = arch.maps(&points);
            let (stack, leave_fp) = rebuilt(&maps, &frames);
            let needed = stack_needed(&maps, ENTRY.trampoline, &frames).unwrap();
            assert_eq!(leave_fp, ENTRY.top - needed);
            assert_eq!(capture(&maps, BASE, &stack, leave_fp).unwrap(), frames);
            stacks.push(stack);
        }
        assert_ne!(stacks[0], stacks[1]);
        assert_eq!(stacks[0], stacks[2]);
    }
}

#[test]
fn the_stack_has_the_documented_shape() {
    let (points, arch) = (points(), MadeUp::new(0));
    let maps = arch.maps(&points);
    let (stack, leave_fp) = rebuilt(&maps, &frames(1, true));
    let stack = Stack::new(&maps, BASE, &stack);
    let trampoline_fp = ENTRY.top - 16;
    assert_eq!(stack.frame(trampoline_fp), Some((0, 0xabcd)));
    let main_fp = trampoline_fp - 32 - 16;
    assert_eq!(
        stack.frame(main_fp),
        Some((trampoline_fp, arch.text_base + 3 * 0x80 + 8))
    );
    let rec_fp = main_fp - 80 - 16;
    assert_eq!(stack.frame(rec_fp), Some((main_fp, arch.text_base + 0x80 + 12)));
    let host_fp = rec_fp - 48 - 16;
    assert_eq!(stack.frame(host_fp), Some((rec_fp, arch.text_base + 2 * 0x80 + 24)));
    assert_eq!(leave_fp, host_fp - 32 - 16);
    assert_eq!(stack.frame(leave_fp), Some((host_fp, arch.text_base + 8)));

    // Contexts, where records have one: of the trampoline, main, REC (at offset 24 of its record) and the wrapper.
    for context in [trampoline_fp - 32, main_fp - 80, rec_fp - 48 + 24, host_fp - 32] {
        assert_eq!(stack.word(context), Some(CTX));
    }
    // A value, the bytes above it in its home's neighbour, and a dead home.
    assert_eq!(stack.word(main_fp - 80 + 16), Some(0xdede_dede_0000_feed));
    assert_eq!(stack.word(main_fp - 80 + 48), Some(0xdede_dede_dede_dede));
    // Nothing below is touched.
    let below = (leave_fp - BASE) as usize;
    assert!(stack.bytes[..below].iter().all(|&b| b == 0x55));
}

/// Short words in the other order, at other places: the same frames, and the links where the shape says.
#[test]
fn frames_survive_another_shape() {
    let (base, points, arch) = (0x2000_0000, points(), MadeUp::new(2));
    let maps = arch.maps(&points);
    let entry = Entry {
        top: base + 0x2000,
        ..ENTRY
    };
    for (depth, host) in [(1, false), (3, true), (50, true)] {
        let frames = frames(depth, host);
        let mut stack = vec![0x55; 0x2000];
        let leave_fp = rebuild(&maps, base, &mut stack, &entry, &frames).unwrap();
        assert_eq!(entry.top - leave_fp, stack_needed(&maps, 3, &frames).unwrap());
        assert_eq!(capture(&maps, base, &stack, leave_fp).unwrap(), frames);
        let trace = backtrace(&maps, base, &stack, leave_fp, 0);
        assert_eq!(trace.innermost.len(), frames.len().min(48));
        // Of the trampoline: the return address at its frame pointer, then the end of the chain.
        let outermost = stack.len() - 24;
        assert_eq!(stack[outermost..][..8], [0, 0, 0xab, 0xcd, 0, 0, 0, 0]);
    }
}

#[test]
fn a_handler_is_returned_to_through_the_leave_thunks_frame() {
    let points = points();
    for (base, number) in [(BASE, 0), (0x2000_0000, 2)] {
        let arch = MadeUp::new(number);
        let maps = arch.maps(&points);
        let mut stack = vec![0; 0x100];
        let handler = Handler {
            fp: base + 0xc0,
            sp: base + 0x80,
            pc: 0x1234_5678,
        };
        let leave_fp = leave_to(&maps, base, &mut stack, handler).unwrap();
        let stack = Stack::new(&maps, base, &stack);
        assert_eq!(stack.bottom(leave_fp), handler.sp);
        assert_eq!(stack.frame(leave_fp), Some((handler.fp, handler.pc)));
    }
}

#[test]
fn rebuild_refuses_what_it_cannot_do() {
    let (points, arch) = (points(), MadeUp::new(0));
    let maps = arch.maps(&points);
    let good = frames(2, false);
    let with = |change: &dyn Fn(&mut Vec<Frame>)| {
        let mut frames = good.clone();
        change(&mut frames);
        rebuild(&maps, BASE, &mut vec![0; 0x2000], &ENTRY, &frames).unwrap_err()
    };
    assert_eq!(with(&|f| f.clear()), FrameError::Empty);
    assert_eq!(with(&|f| f[1].func = 9), FrameError::NoFunction(9));
    assert_eq!(
        with(&|f| f[1].func = 3),
        FrameError::NoFunction(3),
        "a trampoline is no function"
    );
    assert!(matches!(
        with(&|f| f[1].offset = 1),
        FrameError::NotAPoint {
            func: REC,
            offset: 1,
            ..
        }
    ));
    assert!(matches!(
        with(&|f| f[1].offset = REC_GROWS),
        FrameError::NotAPoint { .. }
    ));
    assert!(
        matches!(with(&|f| drop(f.pop())), FrameError::NotAPoint { .. }),
        "a call without callee"
    );
    assert!(
        matches!(with(&|f| f.swap(1, 2)), FrameError::NotAPoint { .. }),
        "a loop with a callee"
    );
    assert!(matches!(
        with(&|f| f[2].kind = PointKind::Entry),
        FrameError::NotAPoint { .. }
    ));
    assert!(matches!(
        with(&|f| f[1].offset = REC_UNREACHABLE),
        FrameError::NoSite {
            offset: REC_UNREACHABLE,
            ..
        }
    ));
    assert!(matches!(
        with(&|f| f[2].values.truncate(1)),
        FrameError::BadValue {
            slot: Slot::Stack(1),
            ..
        }
    ));
    assert!(matches!(
        with(&|f| f[2].values[0].1 = Value::I64(0)),
        FrameError::BadValue {
            slot: Slot::Local(0),
            ..
        }
    ));

    let needed = stack_needed(&maps, 3, &good).unwrap();
    let mut stack = vec![0; needed as usize];
    let entry = Entry {
        top: BASE + needed,
        ..ENTRY
    };
    assert_eq!(rebuild(&maps, BASE, &mut stack, &entry, &good), Ok(BASE));
    let too_small = rebuild(
        &maps,
        BASE,
        &mut stack[..needed as usize - 16],
        &Entry {
            top: entry.top - 16,
            ..entry
        },
        &good,
    );
    assert_eq!(
        too_small,
        Err(FrameError::TooSmall {
            needed,
            available: needed - 16
        })
    );
    for top in [0, BASE - 16, BASE + needed + 16, BASE + needed - 8, !15] {
        assert!(rebuild(&maps, BASE, &mut stack, &Entry { top, ..ENTRY }, &good).is_err());
    }
    assert!(
        rebuild(
            &maps,
            BASE,
            &mut stack,
            &Entry {
                trampoline: MAIN,
                ..entry
            },
            &good
        )
        .is_err()
    );
    assert!(
        rebuild(
            &maps,
            BASE,
            &mut stack,
            &Entry {
                trampoline: 77,
                ..entry
            },
            &good
        )
        .is_err()
    );
}

#[test]
fn capture_refuses_other_places() {
    let (points, arch) = (points(), MadeUp::new(0));
    let maps = arch.maps(&points);
    let (stack, leave_fp) = rebuilt(&maps, &frames(2, false));
    let at = |address: u64| (address - BASE) as usize;
    let with_return = |text: u64| {
        let mut stack = stack.clone();
        stack[at(leave_fp + 8)..][..8].copy_from_slice(&(arch.text_base + text).to_le_bytes());
        capture(&maps, BASE, &stack, leave_fp).unwrap_err()
    };
    assert!(
        matches!(
            with_return(2 * 0x80 + 20),
            FrameError::NotAPoint { offset: REC_GROWS, .. }
        ),
        "memory.grow is no point"
    );
    assert!(
        matches!(with_return(2 * 0x80 + 16), FrameError::NotAPoint { .. }),
        "a call can't be innermost"
    );
    assert!(
        matches!(with_return(2 * 0x80 + 12), FrameError::BadReturn { .. }),
        "a trap is no call"
    );
    assert!(matches!(with_return(2 * 0x80 + 9), FrameError::BadReturn { .. }));
    assert!(
        matches!(with_return(0x78), FrameError::BadReturn { .. }),
        "between functions"
    );
    assert!(matches!(with_return(1 << 40), FrameError::BadReturn { .. }));
    assert!(
        matches!(with_return(3 * 0x80 + 8), FrameError::BadFrame { .. }),
        "a trampoline elsewhere"
    );
    for fp in [
        0,
        1,
        8,
        BASE - 16,
        BASE + 8,
        leave_fp + 16,
        ENTRY.top - 16,
        ENTRY.top - 8,
        ENTRY.top,
        u64::MAX,
        u64::MAX - 15,
    ] {
        assert!(capture(&maps, BASE, &stack, fp).is_err(), "{fp:#x}");
    }
}

#[test]
fn damaged_stacks_are_errors() {
    let (points, arch) = (points(), MadeUp::new(1));
    let maps = arch.maps(&points);
    let good = frames(2, true);
    let (stack, leave_fp) = rebuilt(&maps, &good);
    let used = (leave_fp - BASE) as usize;
    // Loops and wild pointers: whatever stands in any word, the walk ends, and never gives more frames than there are.
    for word in (used..stack.len()).step_by(8) {
        for value in [
            0,
            1,
            leave_fp,
            leave_fp - 16,
            ENTRY.top - 16,
            BASE,
            u64::MAX,
            u64::MAX - 15,
            arch.text_base,
        ] {
            let mut stack = stack.clone();
            stack[word..word + 8].copy_from_slice(&value.to_le_bytes());
            if let Ok(frames) = capture(&maps, BASE, &stack, leave_fp) {
                assert_eq!(frames.len(), good.len());
            }
            let trace = backtrace(&maps, BASE, &stack, leave_fp, arch.text_base);
            assert!(trace.innermost.len() < 10);
        }
    }
    // A chain whose links are cut.
    for len in (0..stack.len() - used).step_by(4) {
        assert!(capture(&maps, BASE, &stack[..used + len], leave_fp).is_err());
    }
}

#[test]
fn two_halves_must_fit() {
    let (points, arch) = (points(), MadeUp::new(0));
    let (points, code) = (
        dunlin_format::framemap::Points::parse(&points).unwrap(),
        Code::parse(&arch.code).unwrap(),
    );
    let error = FrameMaps::new(points, code, arch.shape, 0, 4, 3).unwrap_err();
    assert_eq!(
        error,
        FrameError::MapsDisagree {
            points: 6,
            code: 6,
            needed: 7
        }
    );
}

#[test]
fn backtraces() {
    let (points, arch) = (points(), MadeUp::new(0));
    let maps = arch.maps(&points);
    let (stack, leave_fp) = rebuilt(&maps, &frames(3, false));
    let rec = |offset| TraceFrame {
        func: REC,
        offset: Some(offset),
    };
    let main = TraceFrame {
        func: MAIN,
        offset: Some(MAIN_CALLS_TYPE),
    };
    let (rec_fp, _) = Stack::new(&maps, BASE, &stack).frame(leave_fp).unwrap();
    let code = arch.text_base + 2 * 0x80;

    let at_trap = backtrace(&maps, BASE, &stack, rec_fp, code + 12);
    assert_eq!(
        at_trap.innermost,
        [rec(REC_LOADS), rec(REC_CALLS_REC), rec(REC_CALLS_REC), main]
    );
    assert_eq!((at_trap.elided, at_trap.outermost.len()), (0, 0));
    // Between sites, and before the first.
    assert_eq!(
        backtrace(&maps, BASE, &stack, rec_fp, code + 15).innermost[0],
        rec(REC_LOADS)
    );
    let prologue = backtrace(&maps, BASE, &stack, rec_fp, code + 2).innermost;
    assert_eq!(
        prologue[..2],
        [
            TraceFrame {
                func: REC,
                offset: None
            },
            rec(REC_CALLS_REC)
        ]
    );
    // Nothing sensible.
    assert_eq!(backtrace(&maps, BASE, &stack, 0, 0), Backtrace::default());
    assert_eq!(backtrace(&maps, BASE, &stack, 7, code + 12).innermost, [rec(REC_LOADS)]);
}

#[test]
fn long_backtraces_keep_both_ends() {
    let (points, arch) = (points(), MadeUp::new(0));
    let maps = arch.maps(&points);
    for depth in [47, 62, 63, 64, 65, 100, 101] {
        let frames = frames(depth, false);
        let mut stack = vec![0; 0x4000];
        let entry = Entry {
            top: BASE + 0x4000,
            ..ENTRY
        };
        let leave_fp = rebuild(&maps, BASE, &mut stack, &entry, &frames).unwrap();
        // From the leave thunk's frame, without a pc: all frames, and no more.
        let trace = backtrace(&maps, BASE, &stack, leave_fp, 0);
        let total = frames.len() as u64;
        assert_eq!(
            trace.innermost.len() as u64 + trace.elided + trace.outermost.len() as u64,
            total
        );
        assert_eq!(trace.elided, total.saturating_sub(64));
        let last = trace.outermost.last().or(trace.innermost.last()).unwrap();
        assert_eq!(last.func, MAIN);
        assert_eq!(
            trace.innermost[0],
            TraceFrame {
                func: REC,
                offset: Some(REC_LOOP)
            }
        );
        let mains = trace.outermost.iter().filter(|f| f.func == MAIN).count();
        assert!(mains <= 1);
    }
}
