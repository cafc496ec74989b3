"""The command `everwrite`: its groups, and the one place where errors become exit codes.

The help text of every command stands in the table below, so that `everwrite --help` imports none of
them (under 150 ms; the server alone would cost more). A command's module is imported when the
command runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from everwrite.cli.exits import Exit, exit_for
from everwrite.cli.mistakes import Commands, hint_for, of_the_system
from everwrite.cli.output import report_error, say, say_hint
from everwrite.core.errors import EverwriteError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "everwrite.cli.demo.command:demo",
        "A cluster, shopping carts, faults, and a verdict.",
    ),
    "serve": ("everwrite.cli.serve:serve", "Run one node, or one per core."),
    "cluster": (
        "everwrite.cli.cluster:cluster",
        "A development cluster: start, kill, pause, partition.",
    ),
    "get": ("everwrite.cli.data:get", "Read a key: every value that nothing supersedes."),
    "put": ("everwrite.cli.data:put", "Write a key."),
    "touch": ("everwrite.cli.data:touch", "Let a value with an end live longer."),
    "delete": ("everwrite.cli.data:delete", "Delete a key."),
    "type": (
        "everwrite.cli.types:types",
        "Counters, sets, maps, registers, flags: show and change them.",
    ),
    "status": ("everwrite.cli.inspect:status", "How the cluster is, in one line and one table."),
    "ring": ("everwrite.cli.inspect:ring", "Who owns how much of the ring."),
    "locate": ("everwrite.cli.inspect:locate", "Where a key lives: its preference list."),
    "explain": (
        "everwrite.cli.explain:explain",
        "Why a key is as it is: its copies, what a get answers, what is repaired.",
    ),
    "hints": ("everwrite.cli.inspect:hints", "Writes that wait for a node to come back."),
    "plan": ("everwrite.cli.plan:plan", "Grow, shrink, replace: see what moves, then commit it."),
    "transfers": ("everwrite.cli.transfers:transfers", "Partitions on their way, node by node."),
    "repairs": ("everwrite.cli.repairs:repairs", "How far replicas agree, and what was repaired."),
    "repair": ("everwrite.cli.repairs:repair", "Have replicas compared now, and wait for it."),
    "tombstones": (
        "everwrite.cli.tombstones:tombstones",
        "Deletes that are still remembered, and what for.",
    ),
    "simulate": (
        "everwrite.cli.simulate:simulate",
        "Whole clusters under virtual time and faults, judged.",
    ),
    "bench": ("everwrite.cli.bench:bench", "Measure throughput, latencies and cost per operation."),
}
"""Command -> (module:attribute, one line of help), in the order of the help page."""

_EPILOG = """\b
Exit codes: 0 ok, 1 error, 2 usage, 3 degraded, 4 unreachable, 5 timed out,
130 interrupted.
Data goes to standard output, all else to standard error; -o json for scripts.
EVERWRITE_URL names the node or nodes to talk to, EVERWRITE_SECRET holds the cluster's secret.

\b
Start here:  everwrite demo
"""


class LazyGroup(Commands):
    """A group whose commands are imported only when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None if there is no such one."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command table without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"everwrite {version('everwrite')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Everwrite: a replicated key-value store.

    \b
    It takes writes as long as W nodes (2 by default, 1 if you say so) can be reached.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and leave the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="everwrite", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        say_hint(hint_for(error))
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return Exit.ERROR
    except EverwriteError as error:
        report_error(error)
        return exit_for(error)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (say, `head`) has what it wanted. Python would flush again at
        # exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except OSError as error:
        report_error(of_the_system(error))
        return Exit.ERROR
    return int(code or Exit.OK)
