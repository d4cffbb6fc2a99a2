//! A good state passes; every lie is found and named.

use super::*;
use crate::testing::{self, HOST, MAIN, MAIN_ENTRY, MadeUp, REC, REC_CALLS_HOST, REC_LOOP, module};
use dunlin_format::types::FuncType;

fn check(state: &mut State) -> Result<(), StateError> {
    let (points, arch) = (testing::points(), MadeUp::new(0));
    validate(state, &module(), &arch.maps(&points))
}

/// What is said about the good state with one change.
fn lie(change: impl Fn(&mut State)) -> String {
    let mut state = testing::state();
    change(&mut state);
    check(&mut state).expect_err("the lie went unnoticed").to_string()
}

#[track_caller]
fn says(error: String, part: &str) {
    assert!(error.contains(part), "{error:?} doesn't say {part:?}");
}

#[test]
fn good_states_pass_unchanged() {
    for (depth, host) in [(1, false), (3, true), (40, false)] {
        let mut state = State {
            frames: testing::frames(depth, host),
            ..testing::state()
        };
        let before = state.clone();
        check(&mut state).unwrap();
        assert_eq!(state, before);
    }
}

#[test]
fn dead_values_are_dropped() {
    let mut state = testing::state();
    state.frames[1].values.insert(1, (Slot::Local(1), Value::I64(5)));
    state.frames[0].values.push((Slot::Stack(9), Value::F32(5)));
    check(&mut state).unwrap();
    assert_eq!(state, testing::state());
}

/// A table of a type that is none of references holds none that is believed.
#[test]
fn only_references_refer() {
    let (points, arch, mut module) = (testing::points(), MadeUp::new(0), module());
    module.tables[0].ty = ValType::I64;
    let error = validate(&mut testing::state(), &module, &arch.maps(&points)).expect_err("it was believed");
    says(error.to_string(), "table 0 refers to");
}

#[test]
fn lies_about_frames() {
    says(lie(|s| s.frames.clear()), "0 frames");
    says(lie(|s| s.invocation = Invocation::Start), "the start function");
    says(
        lie(|s| s.invocation = Invocation::Export("nothing".into())),
        "\"nothing\"",
    );
    says(lie(|s| drop(s.frames.remove(0))), "outermost frame is of function 2");
    says(lie(|s| s.frames[1].func = 3), "doesn't exist");
    says(lie(|s| s.frames[1].func = u32::MAX), "doesn't exist");
    says(lie(|s| s.frames[1].func = MAIN), "called a function of type 1");
    says(lie(|s| s.frames[2].func = HOST), "called function 2");
    says(lie(|s| s.frames[2].offset += 1), "no migration point");
    says(
        lie(|s| s.frames[2].kind = PointKind::Loop),
        "no migration point of kind loop",
    );
    says(
        lie(|s| drop(s.frames.pop())),
        "the innermost frame can't be at a point of kind call",
    );
    says(
        lie(|s| {
            s.frames[1].offset = REC_LOOP;
            s.frames[1].kind = PointKind::Loop;
        }),
        "waits for another can't be at a point of kind loop",
    );
    says(
        lie(|s| {
            s.frames[2].offset = REC_CALLS_HOST;
        }),
        "called function 0",
    );
    says(
        lie(|s| {
            s.frames.insert(1, s.frames[0].clone());
        }),
        "frame 1 (0 is the outermost; function 1 at 0x28)",
    );
    let mut entry = testing::state();
    entry.frames.truncate(1);
    (entry.frames[0].offset, entry.frames[0].kind) = (MAIN_ENTRY, PointKind::Entry);
    check(&mut entry).unwrap();
    assert!(entry.frames[0].values.is_empty());
}

#[test]
fn lies_about_values() {
    says(lie(|s| s.frames[3].values.truncate(1)), "stack 1 has no value");
    says(lie(|s| s.frames[3].values.clear()), "local 0 has no value");
    says(
        lie(|s| s.frames[3].values[1].1 = Value::I64(0)),
        "stack 1 is of type i64, not f64",
    );
    says(
        lie(|s| s.frames[0].values[2].1 = Value::FuncRef(Some(3))),
        "stack 0 refers to something that doesn't exist",
    );
    says(
        lie(|s| s.frames[0].values[2].1 = Value::FuncRef(Some(NULL_REF))),
        "doesn't exist",
    );
    says(lie(|s| s.frames[1].values.swap(0, 1)), "out of order");
    says(
        lie(|s| s.frames[1].values.insert(0, (Slot::Local(0), Value::I64(1)))),
        "occurs twice",
    );
}

#[test]
fn lies_about_the_instance() {
    says(lie(|s| s.globals.truncate(1)), "1 globals, the module has 4");
    says(lie(|s| s.memories.clear()), "0 memories, the module has 1");
    says(
        lie(|s| s.tables.push(s.tables[0].clone())),
        "2 tables, the module has 1",
    );
    says(lie(|s| s.dropped_elements.push(true)), "2 element segments");
    says(lie(|s| s.dropped_data.clear()), "0 data segments, the module has 2");
    says(
        lie(|s| s.globals[0] = Value::F32(1)),
        "global 0 is impossible: it is of type f32, not i32",
    );
    says(
        lie(|s| s.globals[1] = Value::FuncRef(Some(3))),
        "global 1 is impossible",
    );
    says(lie(|s| s.globals[2] = Value::I64(9)), "it is constant");
    says(lie(|s| s.globals[3] = Value::I64(9)), "it is constant");
    says(lie(|s| s.memories[0].pages = 1), "1 pages, possible are 2 to 9");
    says(lie(|s| s.memories[0].pages = 10), "possible are 2 to 9");
    says(lie(|s| s.memories[0].pages = u64::MAX), "possible are 2 to 9");
    says(
        lie(|s| s.tables[0].elements.truncate(1)),
        "1 elements, possible are 2 to 4",
    );
    says(lie(|s| s.tables[0].elements = vec![None; 5]), "possible are 2 to 4");
    says(
        lie(|s| s.tables[0].elements[0] = Some(3)),
        "refers to function 3 in element 0",
    );
    says(lie(|s| s.tables[0].elements[2] = Some(NULL_REF)), "in element 2");
    assert_eq!(testing::state().frames[1].func, REC);
}

#[test]
fn memories_without_a_limit_end_at_four_gigabytes() {
    let (points, arch) = (testing::points(), MadeUp::new(0));
    let mut module = module();
    for max in [None, Some(1 << 20)] {
        module.memories[0].max = max;
        let mut state = testing::state();
        state.memories[0].pages = 65536;
        validate(&mut state, &module, &arch.maps(&points)).unwrap();
        state.memories[0].pages = 65537;
        assert!(validate(&mut state, &module, &arch.maps(&points)).is_err());
    }
}

/// The made-up module with a tag that carries an i32 and an exception.
fn with_tag() -> ModuleInfo {
    let mut module = module();
    module.types.push(FuncType {
        params: vec![ValType::I32, ValType::ExnRef],
        results: vec![],
    });
    module.canonical.push(3);
    module.tags = vec![3];
    module
}

#[test]
fn lies_about_exceptions() {
    let exception = |tag, values| Exception {
        tag,
        values,
        referenced: false,
    };
    let with = |exceptions: Vec<Option<Exception>>| {
        let mut state = testing::state();
        state.exceptions = exceptions;
        let (points, arch) = (testing::points(), MadeUp::new(0));
        validate(&mut state, &with_tag(), &arch.maps(&points)).map_err(|e| e.to_string())
    };
    let good = exception(0, vec![Value::I32(1), Value::ExnRef(None)]);
    let refers_to = |n| exception(0, vec![Value::I32(2), Value::ExnRef(Some(n))]);
    assert_eq!(with(vec![Some(good.clone()), None, Some(refers_to(0))]), Ok(()));
    for (lie, says) in [
        (exception(1, vec![]), "its tag doesn't exist"),
        (exception(0, vec![Value::I32(1)]), "values of other types"),
        (
            exception(0, vec![Value::I64(1), Value::ExnRef(None)]),
            "values of other types",
        ),
        (refers_to(1), "refers to something that doesn't exist"),
        (refers_to(99), "refers to something that doesn't exist"),
    ] {
        let found = with(vec![Some(lie), None]).unwrap_err();
        assert!(found.contains("exception 0") && found.contains(says), "{found}");
    }
}

#[test]
fn a_tail_call_may_have_replaced_the_callee() {
    let (points, arch) = (testing::points(), MadeUp::new(0));
    let mut module = module();
    // MAIN calls a function of type 2 (i32 -> i32); REC is one. HOST is another that returns the same, MAIN isn't.
    let as_if = |module: &ModuleInfo, outermost: u32| {
        let mut state = testing::state();
        state.frames.remove(0);
        state.frames[0].func = outermost;
        validate(&mut state, module, &arch.maps(&points)).map_err(|e| e.to_string())
    };
    assert!(as_if(&module, REC).unwrap_err().contains("outermost frame"));
    module.needs.tail_calls = true;
    // `_start` returns nothing, REC an i32: even a tail call can't have led there.
    assert!(as_if(&module, REC).unwrap_err().contains("outermost frame"));
    module.exports[0].index = HOST;
    assert_eq!(as_if(&module, REC), Ok(()));
}
