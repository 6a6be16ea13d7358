mod semver;
