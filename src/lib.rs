//! feedsme
