//! What a failure of SQLite means to a caller: the one place where its codes are judged.

use rusqlite::ErrorCode;

use crate::store::{StoreError, StoreErrorKind};

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(kind(&error), format!("sqlite: {error}"))
    }
}

/// Away: the file or its disk; contention: somebody else holds the lock for longer than the busy timeout; everything
/// else is a mistake in the data or here.
fn kind(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Contention,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreErrorKind::Away,
        _ => StoreErrorKind::Bug,
    }
}

/// A failed COMMIT. When the disk failed, the changes may or may not be in the log, and only reading tells.
pub(super) fn of_commit(error: rusqlite::Error) -> StoreError {
    if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
        StoreError::new(
            StoreErrorKind::Unknown,
            format!("sqlite: the commit failed: {error}"),
        )
    } else {
        error.into()
    }
}

pub(super) fn bug(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Bug, message)
}

pub(super) fn away(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Away, message)
}

/// The same failure for another of those that wait for it.
pub(super) fn again(error: &StoreError) -> StoreError {
    StoreError::new(error.kind, error.message.clone())
}
