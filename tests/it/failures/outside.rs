//! What is outside of the service and survives its death: clients, the registry, the neighbours and their notices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use feedsme::dispatch::Claimed;
use feedsme::ingest::Posted;
use feedsme::model::document::Document;
use feedsme::model::env::Env;
use feedsme::model::id::RebuildId;
use feedsme::model::package::Slot;
use feedsme::neighbours::{Class, Neighbour, Outcome};
use serde_json::{Map, Value, json};

/// A request that arrived at a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub rebuild: RebuildId,
    pub name: String,
    pub version: String,
    /// Empty for a publish.
    pub env: String,
}

/// How a neighbour answers one request.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What it says.
    pub class: Class,
    /// Whether it did what it was asked for, whatever it says.
    pub does_it: bool,
    /// What the client knows about that (H12).
    pub may_have_reached: bool,
}

impl Answer {
    /// Cut off after the work was done.
    pub const CUT: Self = Self {
        class: Class::Retry { retry_after: None },
        does_it: true,
        may_have_reached: true,
    };
    /// Nobody there.
    pub const AWAY: Self = Self {
        class: Class::Pause { retry_after: None },
        does_it: false,
        may_have_reached: false,
    };
    /// A mistake of ours: nothing was done, and nothing will be.
    pub const REFUSED: Self = Self {
        class: Class::Dead,
        does_it: false,
        may_have_reached: true,
    };
    /// An error before anything was done; the client cannot know.
    pub const BROKEN: Self = Self {
        class: Class::Retry { retry_after: None },
        does_it: false,
        may_have_reached: true,
    };
}

/// See the module.
#[derive(Default)]
pub struct Outside {
    /// What every version declares.
    manifests: BTreeMap<(String, String), Map<String, Value>>,
    /// What was published, by us or by others.
    pub registry: BTreeSet<(String, String)>,
    /// What the build service will post.
    pub notices: VecDeque<Posted>,
    /// Packages whose notices are not posted yet, with those notices.
    pub held: BTreeMap<String, Vec<Posted>>,
    /// Every request that arrived.
    pub arrived: Vec<Arrived>,
    /// How the next requests about a (name, version) are answered; after that, kindly.
    pub answers: BTreeMap<(String, String), VecDeque<Answer>>,
}

/// A document of that version.
pub fn manifest(name: &str, version: &str, dependencies: &[(&str, &str)]) -> Map<String, Value> {
    let dependencies: Map<String, Value> = dependencies
        .iter()
        .map(|(parent, range)| ((*parent).to_owned(), json!(range)))
        .collect();
    let value = json!({ "name": name, "version": version, "dependencies": dependencies });
    value.as_object().unwrap().clone()
}

pub fn posted(manifest: &Map<String, Value>, env: Option<&str>) -> Posted {
    Posted {
        document: Document::parse(&serde_json::to_vec(manifest).unwrap()).unwrap(),
        env: env.map(Env::trusted),
        promote: true,
        key: None,
    }
}

impl Outside {
    /// Somebody publishes by hand.
    pub fn publish(&mut self, manifest: &Map<String, Value>) {
        let text = |key: &str| manifest[key].as_str().unwrap().to_owned();
        let key = (text("name"), text("version"));
        self.registry.insert(key.clone());
        self.manifests
            .entry(key)
            .or_insert_with(|| manifest.clone());
    }

    /// The document of a version that was published.
    pub fn document(&self, name: &str, version: &str) -> Map<String, Value> {
        self.manifests[&(name.to_owned(), version.to_owned())].clone()
    }

    /// The neighbour is asked for a rebuild.
    pub fn receive(&mut self, claimed: &Claimed) -> Outcome {
        let name = claimed.name.as_str().to_owned();
        let version = claimed.key.version.to_string();
        let key = (name.clone(), version.clone());
        let exists = claimed.key.slot == Slot::Publish && self.registry.contains(&key);
        let answer = match self.answers.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(answer) => answer,
            None if exists => Answer {
                class: Class::Exists,
                does_it: false,
                may_have_reached: true,
            },
            None => Answer {
                class: Class::Sent,
                does_it: true,
                may_have_reached: true,
            },
        };
        if answer.may_have_reached {
            self.arrived.push(Arrived {
                rebuild: claimed.rebuild.id.clone(),
                name: name.clone(),
                version: version.clone(),
                env: claimed.key.slot.as_str().to_owned(),
            });
        }
        if answer.does_it && !exists {
            let base = (name.clone(), claimed.rebuild.base.to_string());
            let mut manifest = self.manifests[&base].clone();
            manifest.insert("version".into(), json!(version));
            let env = match &claimed.key.slot {
                Slot::Publish => {
                    self.publish(&manifest);
                    None
                }
                Slot::Env(env) => Some(env.as_str()),
            };
            let notice = posted(&manifest, env);
            match self.held.get_mut(&name) {
                Some(held) => held.push(notice),
                None => self.notices.push_back(notice),
            }
        }
        Outcome {
            class: answer.class,
            neighbour: Neighbour::BuildService,
            may_have_reached: answer.may_have_reached,
            status: None,
            message: format!("{:?}", answer.class),
        }
    }

    /// The notices of this package come late.
    pub fn hold(&mut self, name: &str) {
        self.held.entry(name.to_owned()).or_default();
    }

    /// They come now.
    pub fn release(&mut self, name: &str) {
        self.notices
            .extend(self.held.remove(name).unwrap_or_default());
    }

    /// How often each rebuild arrived.
    pub fn counts(&self) -> BTreeMap<RebuildId, usize> {
        let mut counts = BTreeMap::new();
        for one in &self.arrived {
            *counts.entry(one.rebuild.clone()).or_default() += 1;
        }
        counts
    }
}
