//! What a person can tell `dunlin` to do, one verb each: its arguments and what it does. What two verbs share lies
//! elsewhere.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod migrate;
pub(crate) mod pair;
pub(crate) mod peers;
pub(crate) mod ps;
pub(crate) mod receive;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod settle;
pub(crate) mod version;
