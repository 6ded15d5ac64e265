//! Examples of every command, and what the exit codes mean.

pub(crate) const ALL: &str = "\
Examples:
  cofferdam run -f pods.yaml            run pods until they end; Ctrl-C ends them all
  cofferdam run -f pods.yaml --detach   start them, and return when they run
  cofferdam handlers                    which enclosures this machine has
  cofferdam stop --all                  end everything and leave nothing
  cofferdam install --dry-run           what makes this node a kubelet's with Cofferdam

A command that fails by itself ends with 120; run has codes of its own, see: cofferdam run --help";

pub(crate) const RUN: &str = "\
Examples:
  cofferdam run -f pods.yaml
  cofferdam run -f manifests/ -f extra.yaml --detach
  cofferdam run -f pods.yaml -o json | jq '.pods[].phase'
  kubectl create deployment web --image=web --dry-run=client -o yaml | cofferdam run -f -

Exit codes:
  0    every pod succeeded (with --detach: every pod runs or has succeeded)
  1-   else the code of the first container that failed, in the order of the manifests
  120  nothing was run: a file, an option or the machine is at fault
  121  a pod was not admitted; none of the others failed
  122  every pod succeeded, and something of one could not be removed
  123  the first pod that failed lost its sandbox
  124  the first pod that failed was ended, by its deadline or by request
  125  the first pod that failed never started a container: its handler, its image, its volumes
       or something that it asks for is not to be had";

pub(crate) const PS: &str = "\
Examples:
  cofferdam ps
  cofferdam ps --all          those too that are over, with their exit codes
  cofferdam ps -o json | jq -r '.[] | select(.status == \"Running\") | .name'";

pub(crate) const EXEC: &str = "\
Examples:
  cofferdam exec web -- ls /
  cofferdam exec -it web -- sh
  tar -c src | cofferdam exec -i web -c app -- tar -x -C /tmp

It ends with the command's own exit code.";

pub(crate) const STOP: &str = "\
Examples:
  cofferdam stop web
  cofferdam stop web default/db --grace 5
  cofferdam stop --all

Pods that a kubelet keeps are left to kubectl, but with --force.";

pub(crate) const CONFIG: &str = "\
Examples:
  cofferdam config
  cofferdam --config ./config.toml config -o json";

pub(crate) const HANDLERS: &str = "\
Examples:
  cofferdam handlers
  cofferdam handlers -o json | jq -r '.[] | select(.unproved == null) | .name'";

pub(crate) const DEMO: &str = "\
Examples:
  cofferdam demo
  cofferdam demo --pods examples/tiers.yaml --refused examples/refused.yaml";

pub(crate) const DOCTOR: &str = "\
Examples:
  cofferdam doctor                                      the machine
  cofferdam doctor web                                  a pod, also one that is over
  cofferdam doctor web -f classes.yaml                  and whether its class is still what it was
  cofferdam doctor -f pods.yaml                         why pods are not admitted
  cofferdam doctor --kubeconfig config shop/web         a pod of a cluster
  cofferdam doctor -o json | jq -r '.findings[].id'

Exit codes:
  0    nothing was found that stops pods
  1    something was
  120  there is no such pod, a manifest cannot be read, or the cluster does not answer";

pub(crate) const COMPLETION: &str = "\
Examples:
  cofferdam completion bash > /etc/bash_completion.d/cofferdam
  cofferdam completion zsh > /usr/local/share/zsh/site-functions/_cofferdam
  cofferdam completion fish > ~/.config/fish/completions/cofferdam.fish";

pub(crate) const MAN: &str = "\
Examples:
  cofferdam man /usr/local/share/man/man1";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::args::Cli;
    use clap::CommandFactory;
    use cofferdam_node::{EXIT_ENDED, EXIT_LEFT_BEHIND, EXIT_NOT_STARTED, EXIT_SANDBOX_DIED};

    fn every(command: &clap::Command, look: &mut impl FnMut(&clap::Command)) {
        for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            look(inner);
            every(inner, look);
        }
    }

    /// Words as a shell sees them; single quotes alone are known.
    fn words(line: &str) -> Vec<String> {
        let mut all = vec![String::new()];
        for (index, part) in line.split('\'').enumerate() {
            let mut pieces = if index % 2 == 1 { vec![part] } else { part.split(' ').collect() }.into_iter();
            let last = all.last_mut().unwrap();
            last.push_str(pieces.next().unwrap_or_default());
            all.extend(pieces.map(str::to_owned));
        }
        all.retain(|word| !word.is_empty());
        all
    }

    #[test]
    fn every_command_has_examples_that_it_takes() {
        let mut seen = 0;
        every(&Cli::command(), &mut |command| {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:"), "{} has no examples", command.get_name());
            for line in text
                .lines()
                .filter_map(|l| l.strip_prefix("  "))
                .filter(|l| l.contains("cofferdam "))
            {
                // Of a pipe, the part that is ours; after two spaces comes what it does.
                let ours = line.split(" | ").find(|part| part.starts_with("cofferdam")).unwrap();
                let words = words(ours.split("  ").next().unwrap().split(" > ").next().unwrap());
                let parsed = Cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{ours}: {}", parsed.unwrap_err());
                seen += 1;
            }
        });
        assert!(seen > 25, "only {seen} examples were tried");
    }

    #[test]
    fn run_tells_every_exit_code() {
        let codes = [EXIT_ENDED, EXIT_LEFT_BEHIND, EXIT_NOT_STARTED, EXIT_SANDBOX_DIED];
        let ours = [crate::EXIT_ERROR, crate::EXIT_DENIED].map(i32::from);
        for code in codes.into_iter().chain(ours) {
            assert!(super::RUN.contains(&format!("\n  {code}  ")), "{code} is not told");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
