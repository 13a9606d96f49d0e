//! Verdicts in words: what each says, what follows from it, and how a run ends with it.
//!
//! In: the name of a verdict as reports write it. Out: its explanation. Invariant: every verdict of
//! [`Verdict`](super::access::Verdict) has one, and its exit code is the one that runs end with.

/// One verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// As JSON writes it.
    pub name: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it says, what to do, how the run ends.
    pub text: &'static str,
}

/// All verdicts, the best first.
pub const ALL: [Explained; 7] = [
    Explained {
        name: "same",
        title: "Nobody gains access and nobody loses any that he is known to use",
        text: "What it says: for every request, every caller (each workload, any other identity of the mesh, those without \
identity) and every mixture of old and new pods, the answer is the one of the baseline. It is proved for all of them at \
once, and not a sample.\n\n\
What it does not say: that nothing changed. Notes behind it name pod addresses that are closed and that nobody is known to \
dial, and waypoints whose own identity may now reach the pods behind them (`newly trusted`). `--direct fail` and \
`--outsiders fail` make losses of the first kind count.\n\n\
Exit code: 0, if nothing else says otherwise.\n",
    },
    Explained {
        name: "intended",
        title: "Access differs, and all of it was named with `--allow`",
        text: "What it says: every difference of this server that was shown by a request is one that somebody said is meant \
(`castoff verify --allow opens:NAMESPACE/WORKLOAD`, `breaks:`, `new:`). What is undecided is never intended.\n\n\
What to do: nothing. An `--allow` that no longer finds anything is named at the end; take it away.\n\n\
Exit code: 0.\n",
    },
    Explained {
        name: "opens",
        title: "Somebody can do what he could not do before",
        text: "What it says: there is a request that is accepted now and was accepted in the baseline neither at this address \
nor at any that is in use. The request is shown, with where and by which rule it was refused before and is let in now; it \
was replayed through a plain evaluator.\n\n\
Why it matters: in a migration nobody notices. Typical causes: a caller that goes past a waypoint to a ztunnel, which knows \
no methods and paths; a copy that is attached to nothing; an ALLOW for everybody that stands beside a narrower one.\n\n\
What to do: in a plan, follow its order, and read the ways out beneath a workload that it holds back; `--on-gap deny` closes \
what would open, where that can be done. In `verify`, correct the change, or name it with `--allow opens:NAMESPACE/WORKLOAD`.\n\n\
Exit code: 3.\n",
    },
    Explained {
        name: "breaks",
        title: "Somebody is refused what he could do before",
        text: "What it says: an address that is in use accepted a request in the baseline and refuses it now. In use are \
Services, and pod addresses where nothing else leads to the port or somebody is known to dial pods (headless Services, scraped \
ports). Callers without identity count where a Service is exposed or a workload is outside the mesh. `why it counts` says \
which object makes this caller one who is known to call.\n\n\
What to do: in a plan, follow its order; read the ways out, each with what it costs; tell castoff who calls whom \
(`--traffic`, `--prometheus`), so that losses of those who never call do not count. In `verify`, correct the change, or name it \
with `--allow breaks:NAMESPACE/WORKLOAD`; `--only-new-access` leaves losses out.\n\n\
Exit code: 3.\n",
    },
    Explained {
        name: "opensAndBreaks",
        title: "Both: somebody gains, and somebody loses",
        text: "What it says: both of `castoff explain opens` and `castoff explain breaks`, each with a request of its own.\n\n\
Exit code: 3.\n",
    },
    Explained {
        name: "new",
        title: "A workload that was not there may be called, or may call for who it is",
        text: "What it says: only the second input of `castoff verify` has this workload. `new` names those who may call it; \
`calls` names servers that let it in for who it is: for its account or namespace, which a policy names, or for labels that a \
NetworkPolicy selects. Whether a workload had its identity before is said too. Where nobody may call it and it may call nobody \
whom others may not, it is `same`.\n\n\
What to do: see that these callers and servers are meant, then `--allow new:NAMESPACE/WORKLOAD`.\n\n\
Exit code: 3.\n",
    },
    Explained {
        name: "undecided",
        title: "castoff cannot tell; it is never taken for the same",
        text: "What it says: part of the way is not modelled and is not the same object with the same text on both sides (an \
EnvoyFilter, a Wasm plugin, an external authorizer that sees something else, a waypoint that is no Envoy), a comparison was \
too large, the other side has no such server, or something could not be read. The reason is shown, with what was proved around \
it where something was.\n\n\
What to do: give what is missing (`castoff collect` reads all that is needed; a kind that may not be read is named); move the \
object that is not modelled in a change of its own, before or after; test these requests by hand.\n\n\
Exit code: 4.\n",
    },
];

/// The verdict of this name, in any case.
pub fn named(name: &str) -> Option<&'static Explained> {
    ALL.iter().find(|one| one.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::super::access::Verdict;
    use super::*;

    #[test]
    fn every_verdict_is_explained_under_the_name_that_reports_write() {
        let schema = schemars::schema_for!(Verdict).to_value().to_string();
        let written = schema.matches("\"const\":").count();
        assert_eq!(written, ALL.len(), "{schema}");
        for one in ALL {
            assert!(
                schema.contains(&format!("\"const\":\"{}\"", one.name)),
                "{}",
                one.name
            );
            assert!(one.text.contains("Exit code: "), "{}", one.name);
        }
    }
}
