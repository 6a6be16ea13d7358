//! feedsme: when an npm package gets a new version, rebuilds every dependent that lets it in.
