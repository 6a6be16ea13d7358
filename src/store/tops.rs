//! A page of highest versions, as [`Store::tops`](super::Store::tops) answers: all names, versions and ranges in one text,
//! so that reading a million edges is not a million allocations.

use std::borrow::Cow;

use serde::Deserialize;

/// A page of highest versions with what they declare.
#[derive(Clone, Debug, Default)]
pub struct Tops {
    text: String,
    /// Where each piece of `text` ends: of each row name, version, origin, then parent and range of each edge.
    ends: Vec<usize>,
    /// Of each row, how many edges it has.
    edges: Vec<usize>,
}

/// A package's highest version, as it is stored: the texts were judged when they came in.
#[derive(Clone, Debug)]
pub struct TopRow<'a> {
    /// The package.
    pub name: &'a str,
    /// Its highest published version.
    pub version: &'a str,
    /// Of a version that we made, its origin.
    pub origin: Option<&'a str>,
    /// What the version declares: (parent, range), in package.json order.
    pub edges: Vec<(&'a str, &'a str)>,
}

/// A stored edge: `["parent","range"]`.
#[derive(Deserialize)]
struct Pair<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

impl Tops {
    /// Adds a row; `edges` is the JSON of its (parent, range) pairs, as both stores keep it.
    ///
    /// # Errors
    /// The JSON is not readable; nothing was added.
    pub fn push(
        &mut self,
        name: &str,
        version: &str,
        origin: Option<&str>,
        edges: &str,
    ) -> Result<(), serde_json::Error> {
        let pairs: Vec<Pair<'_>> = serde_json::from_str(edges)?;
        for piece in [name, version, origin.unwrap_or("")] {
            self.piece(piece);
        }
        for Pair(parent, range) in &pairs {
            self.piece(parent);
            self.piece(range);
        }
        self.edges.push(pairs.len());
        Ok(())
    }

    fn piece(&mut self, piece: &str) {
        self.text.push_str(piece);
        self.ends.push(self.text.len());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// The rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = TopRow<'_>> {
        let mut start = 0;
        let mut pieces = self.ends.iter().map(move |&end| {
            let piece = self.text.get(start..end).unwrap_or_default();
            start = end;
            piece
        });
        self.edges.iter().map(move |&edges| {
            let mut next = || pieces.next().unwrap_or_default();
            let (name, version, origin) = (next(), next(), next());
            TopRow {
                name,
                version,
                origin: Some(origin).filter(|origin| !origin.is_empty()),
                edges: (0..edges).map(|_| (next(), next())).collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_put() {
        let mut page = Tops::default();
        page.push("a", "1.0.0", None, "[]").unwrap();
        page.push(
            "@s/b",
            "1.0.1-0",
            Some("1.0.0"),
            r#"[["a","^1.0.0"],["c","git+https://x/\"y\".git"],["d",""]]"#,
        )
        .unwrap();
        assert!(page.push("broken", "1.0.0", None, "[[\"a\"]]").is_err());
        page.push("z", "2.0.0", None, r#"[["@s/b","*"]]"#).unwrap();
        let rows: Vec<_> = page.iter().collect();
        assert_eq!((rows.len(), page.len(), page.is_empty()), (3, 3, false));
        assert_eq!((rows[0].name, rows[0].origin), ("a", None));
        assert!(rows[0].edges.is_empty());
        assert_eq!(
            (rows[1].name, rows[1].version, rows[1].origin),
            ("@s/b", "1.0.1-0", Some("1.0.0"))
        );
        let declared = [("a", "^1.0.0"), ("c", "git+https://x/\"y\".git"), ("d", "")];
        assert_eq!(rows[1].edges, declared);
        assert_eq!((rows[2].name, rows[2].edges[0]), ("z", ("@s/b", "*")));
    }
}
