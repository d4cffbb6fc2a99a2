//! What a person can tell `dunlin` to do, one verb each: its arguments and what it does. What two verbs share lies
//! elsewhere.

pub mod build;
pub mod check;
pub mod checkpoint;
pub mod inspect;
pub mod migrate;
pub mod ps;
pub mod receive;
pub mod resume;
pub mod run;
pub mod settle;
pub mod version;
