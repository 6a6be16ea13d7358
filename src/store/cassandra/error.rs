//! What a failure of Cassandra means to a caller: the one place where the driver's errors are judged.
//!
//! A write that timed out, or whose connection broke, may have been done (H9): that is [`StoreErrorKind::Unknown`] and
//! never anything else. A read that failed has no outcome to be unsure about.

use scylla::errors::{DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError};

use crate::store::{StoreError, StoreErrorKind};

/// The protocol's number of "the outcome of the compare and set is unknown", which the driver does not name.
const CAS_WRITE_UNKNOWN: i32 = 0x1700;
/// "A replica could not be reached for the write of a change data capture log"; also without a name.
const CDC_WRITE_FAILURE: i32 = 0x1600;

pub(super) fn bug(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Bug, message)
}

pub(super) fn away(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Away, message)
}

pub(super) fn unknown(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, message)
}

/// A failed write: `Unknown` if it may have been done.
pub(super) fn of_write(what: &str, error: &ExecutionError) -> StoreError {
    StoreError::new(kind(error), format!("cassandra: {what}: {error}"))
}

/// A failed read.
pub(super) fn of_read(what: &str, error: &ExecutionError) -> StoreError {
    let kind = match kind(error) {
        StoreErrorKind::Unknown => StoreErrorKind::Away,
        kind => kind,
    };
    StoreError::new(kind, format!("cassandra: {what}: {error}"))
}

/// A statement that could not be prepared.
pub(super) fn of_prepare(statement: &str, error: &PrepareError) -> StoreError {
    let kind = match error {
        PrepareError::AllAttemptsFailed { first_attempt } => match of_attempt(first_attempt) {
            StoreErrorKind::Unknown => StoreErrorKind::Away,
            kind => kind,
        },
        PrepareError::ConnectionPoolError(_) => StoreErrorKind::Away,
        _ => StoreErrorKind::Bug,
    };
    StoreError::new(kind, format!("cassandra: preparing {statement}: {error}"))
}

/// No connection at all.
pub(super) fn of_session(error: &NewSessionError) -> StoreError {
    let kind = match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            StoreErrorKind::Bug
        }
        _ => StoreErrorKind::Away,
    };
    StoreError::new(kind, format!("cassandra: connecting: {error}"))
}

fn kind(error: &ExecutionError) -> StoreErrorKind {
    match error {
        ExecutionError::RequestTimeout(_) => StoreErrorKind::Unknown,
        ExecutionError::EmptyPlan
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::SchemaAgreementError(_)
        | ExecutionError::MetadataError(_)
        | ExecutionError::PrepareError(PrepareError::ConnectionPoolError(_)) => {
            StoreErrorKind::Away
        }
        ExecutionError::LastAttemptError(error) => of_attempt(error),
        _ => StoreErrorKind::Bug,
    }
}

fn of_attempt(error: &RequestAttemptError) -> StoreErrorKind {
    match error {
        RequestAttemptError::UnableToAllocStreamId => StoreErrorKind::Away,
        RequestAttemptError::BrokenConnectionError(_) => StoreErrorKind::Unknown,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::Unavailable { .. }
            | DbError::Overloaded
            | DbError::IsBootstrapping
            | DbError::ReadTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::RateLimitReached { .. } => StoreErrorKind::Away,
            DbError::WriteTimeout { .. }
            | DbError::WriteFailure { .. }
            | DbError::ServerError
            | DbError::Other(CAS_WRITE_UNKNOWN | CDC_WRITE_FAILURE) => StoreErrorKind::Unknown,
            _ => StoreErrorKind::Bug,
        },
        _ => StoreErrorKind::Bug,
    }
}

/// Whether a conditional write that failed this way may have been done. More than [`kind`] says: the first phases of
/// Paxos time out as reads, and a coordinator that gave up there may have got its proposal through.
pub(super) fn may_be_done(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::WriteTimeout { .. }
                | DbError::WriteFailure { .. }
                | DbError::ReadTimeout { .. }
                | DbError::ReadFailure { .. }
                | DbError::ServerError
                | DbError::Other(CAS_WRITE_UNKNOWN | CDC_WRITE_FAILURE)
        ),
        other => kind(other) == StoreErrorKind::Unknown,
    }
}
