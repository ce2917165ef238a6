"""What every job shares: arguments, configuration, session, run record, summary, exit codes.

Exit codes: 0 done or nothing to do, 2 the configuration is wrong, 3 the data does not allow it, 1 anything else.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path
from typing import NoReturn

from pyspark.sql import SparkSession

from akt_spark.conf_file import load, load_experiment
from akt_spark.config import Config
from akt_spark.errors import AktError, DataError
from akt_spark.lake import Lake
from akt_spark.ledger import Ledger, Record
from akt_spark.pipeline import STAGES, Stage, after, run_stage, stage
from akt_spark.session import spark_session
from akt_spark.stage import Context

UNREADABLE = ("CANNOT_READ_FILE_FOOTER", "FAILED_READ_FILE", "is not a Parquet file", "PATH_NOT_FOUND")


def main(name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one stage as a job."""
    args = _with_day(_parser(name)).parse_args(arguments)
    _exit(name, lambda: _run(name, (stage(name),), args))


def nightly(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs all stages in order; those with nothing to do are skipped."""
    args = _with_day(_parser("nightly")).parse_args(arguments)
    _exit("nightly", lambda: _run("nightly", STAGES, args))


def experiment(arguments: Sequence[str] | None = None) -> NoReturn:
    """Trains, scores and compares variants and seeds on what a night has prepared."""
    parser = _with_day(_parser("experiment"))
    _with_files(parser)
    args = parser.parse_args(arguments)
    _exit("experiment", lambda: _experiment(args))


def tune(arguments: Sequence[str] | None = None) -> NoReturn:
    """Trains the variants of an experiment at every point of the grid, and writes the experiment with the best ones."""
    parser = _with_day(_parser("tune"))
    _with_files(parser)
    parser.add_argument("--out", required=True, type=Path, help="the experiment file to write")
    args = parser.parse_args(arguments)
    _exit("tune", lambda: _tune(args))


def maintain(arguments: Sequence[str] | None = None) -> NoReturn:
    """Removes what the policy does not keep, and compacts small files."""
    parser = _parser("maintain")
    parser.add_argument("--dry-run", action="store_true", help="says what would be done, and changes nothing")
    args = parser.parse_args(arguments)
    _exit("maintain", lambda: _maintain(args))


def semantic_ids(arguments: Sequence[str] | None = None) -> NoReturn:
    """Lists codebooks, compares two, publishes one or takes the published one back."""
    parser = _parser("semantic_ids")
    parser.add_argument("action", choices=("list", "compare", "promote", "rollback"))
    parser.add_argument("--entity", choices=("item", "user"), default="item", help="whose codebook (item)")
    parser.add_argument("--version", help="the codebook to compare with the published one, or to publish")
    args = parser.parse_args(arguments)
    _exit("semantic_ids", lambda: _semantic_ids(args))


def score(arguments: Sequence[str] | None = None) -> NoReturn:
    """Scores the test period of a night, or what somebody asks for: pairs, or the best candidates of users."""
    parser = _parser("score")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ds", type=_day, help="the closed day whose test period is scored, YYYY-MM-DD (UTC)")
    what.add_argument("--requests", metavar="PATH", help="a table of user_id, item_id and event_time to score")
    what.add_argument("--candidates", metavar="PATH", help="a table of item_id, for all users or by user_id, to rank")
    parser.add_argument("--top", type=int, default=10, help="with --candidates: items kept of a user (10)")
    parser.add_argument("--users", metavar="PATH", help="with --candidates: a table of user_id (all users)")
    _with_moment(parser)
    parser.add_argument(
        "--request-id", metavar="NAME", help="the same id again replaces the rows (made of the request)"
    )
    args = parser.parse_args(arguments)
    if args.candidates is None and (args.users or args.as_of):
        parser.error("--users and --as-of go with --candidates; pairs to score have a time each")
    if args.ds is None:
        _exit("score", lambda: _serve("score", args))
    _exit("score", lambda: _run("score", (stage("score"),), args))


def export(arguments: Sequence[str] | None = None) -> NoReturn:
    """Writes a folder that scores without Spark."""
    parser = _with_moment(_parser("export"))
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the folder; an export in it goes")
    args = parser.parse_args(arguments)
    _exit("export", lambda: _serve("export", args))


def _exit(job: str, work: Callable[[], None]) -> NoReturn:
    try:
        work()
    except AktError as error:
        print(f"\n{job}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"\n{job}: interrupted; run it again to go on where it stopped", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        traceback.print_exc()
        unreadable = any(sign in str(error) for sign in UNREADABLE)
        print(f"\n{job}: failed: {cause}", file=sys.stderr)
        sys.exit(DataError.exit_code if unreadable else 1)
    sys.exit(0)


def _parser(job: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=job)
    parser.add_argument("--conf-file", help="YAML configuration; without it, the defaults of conf/default.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=c", help="overrides one key; may be given again"
    )
    parser.set_defaults(dry_run=False)
    if job == "ingest":
        parser.add_argument("--dry-run", action="store_true", help="shows what it makes of the files, writes nothing")
    return parser


def _with_day(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--ds", required=True, type=_day, help="the closed day to work for, YYYY-MM-DD (UTC)")
    return parser


def _with_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="what it changes: conf/experiments/*.yaml, the last on top"
    )


def _with_moment(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--as-of",
        type=_moment,
        metavar="TIME",
        help="nothing at or after it is seen, UTC (the end of the closed day of the ranker's run)",
    )
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day: write YYYY-MM-DD, for example 2018-09-24") from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        wanted = "write YYYY-MM-DD or YYYY-MM-DDTHH:MM, for example 2018-09-25T08:00"
        raise argparse.ArgumentTypeError(f"'{text}' is not a time: {wanted}") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _run(job: str, stages: Sequence[Stage], args: argparse.Namespace) -> None:
    config = load(args.conf_file, args.set)
    spark = spark_session(config.spark, f"akt_spark {job} {args.ds}")
    try:
        if args.dry_run:
            _preview(spark, config, args.ds)
            return
        _run_stages(job, stages, Context(spark, Lake(spark, config.lake.root), config, args.ds, args.ds.isoformat()))
    finally:
        spark.stop()


def _experiment(args: argparse.Namespace) -> None:
    from akt_spark.experiment import STAGES_OF_EXPERIMENTS, name_of, prepared, run_id

    config, name = _of_experiment(args), name_of(args.files)
    path = str(Path(config.report.path, "experiments", name))
    config = config.model_copy(update={"report": config.report.model_copy(update={"path": path})})
    spark = spark_session(config.spark, f"akt_spark experiment {name}")
    try:
        lake, before = prepared(Lake(spark, config.lake.root), config, args.ds)
        ctx = Context(spark, lake, config, args.ds, run_id(args.ds, name))
        _run_stages("experiment", [stage(of) for of in (*before, *STAGES_OF_EXPERIMENTS)], ctx)
    finally:
        spark.stop()


def _tune(args: argparse.Namespace) -> None:
    from akt_spark import tuning
    from akt_spark.experiment import name_of, prepared, run_id

    config, name = _of_experiment(args), f"{name_of(args.files)}-tuning"
    spark = spark_session(config.spark, f"akt_spark tune {name}")
    try:
        lake, before = prepared(Lake(spark, config.lake.root), config, args.ds)
        ctx = Context(spark, lake, tuning.with_grid(config), args.ds, run_id(args.ds, name))
        _run_stages("tune", [stage(of) for of in (*before, "train_ranker")], ctx)
        chosen = tuning.choices(lake, ctx.run_id, config)
        args.out.write_text(tuning.tuned_experiment(config, chosen))
        for variant, choice in chosen.items():
            values = ", ".join(f"{key} {value}" for key, value in choice.values.items())
            print(f"{variant}: {values}; validation AUC {choice.auc:.4f} (worst {choice.worst:.4f})", flush=True)
        print(f"the variants with these are {args.out}", flush=True)
    finally:
        spark.stop()


def _of_experiment(args: argparse.Namespace) -> Config:
    """The night's configuration with the files of an experiment on top, the last one uppermost."""
    return reduce(lambda config, file: load_experiment(file, config), args.files, load(args.conf_file, args.set))


def _run_stages(job: str, stages: Sequence[Stage], ctx: Context) -> None:
    """Runs stages one after the other, records and summarises them."""
    started, skipped = time.monotonic(), []
    ledger = Ledger(ctx.lake, ctx.run_id)
    for number, step in enumerate(stages, start=1):
        print(f"[{number}/{len(stages)}] {step.name} ...", flush=True)
        record = run_stage(ctx, ledger, step)
        _summarise(record)
        ctx = after(ctx, record)
        if record.status == "skipped":
            skipped.append(record)
    ledger.append(*skipped)
    if stages[-1].name == "report" and len(stages) > 1:
        _close(ctx)
    print(
        f"{job} for {ctx.ds}: {len(stages) - len(skipped)} run, {len(skipped)} skipped, "
        f"{time.monotonic() - started:.0f} s"
    )


def _preview(spark: SparkSession, config: Config, ds: date) -> None:
    from akt_spark.sources.preview import preview

    for line in preview(spark, config, ds):
        print(line, flush=True)


def _maintain(args: argparse.Namespace) -> None:
    from akt_spark.maintenance.maintain import maintain

    config = load(args.conf_file, args.set)
    spark = spark_session(config.spark, "akt_spark maintain")
    try:
        if args.dry_run:
            print("dry run: nothing is changed; this would be done")
        for line in maintain(Lake(spark, config.lake.root), config.maintenance, args.dry_run):
            print(line, flush=True)
    finally:
        spark.stop()


def _semantic_ids(args: argparse.Namespace) -> None:
    from akt_spark.semantic import commands

    config = load(args.conf_file, args.set)
    spark = spark_session(config.spark, f"akt_spark semantic_ids {args.action}")
    try:
        ctx = Context(spark, Lake(spark, config.lake.root), config, date.today(), f"semantic_ids {args.action}")
        actions = {
            "list": lambda: commands.list_codebooks(ctx),
            "compare": lambda: commands.compare(ctx, args.entity, args.version),
            "promote": lambda: commands.promote_codebook(ctx, args.entity, args.version),
            "rollback": lambda: commands.roll_back(ctx, args.entity),
        }
        for line in actions[args.action]():
            print(line, flush=True)
    finally:
        spark.stop()


def _serve(job: str, args: argparse.Namespace) -> None:
    from akt_spark.serving import commands

    config = load(args.conf_file, args.set)
    spark = spark_session(config.spark, f"akt_spark {job}")
    try:
        ctx = Context(spark, Lake(spark, config.lake.root), config, date.today(), job)
        if job == "export":
            lines = commands.export(ctx, args.out, args.as_of)
        elif args.requests is not None:
            lines = commands.score_requests(ctx, args.requests, args.request_id)
        else:
            lines = commands.rank_candidates(ctx, args.candidates, args.top, args.users, args.as_of, args.request_id)
        for line in lines:
            print(line, flush=True)
    finally:
        spark.stop()


def _summarise(record: Record) -> None:
    if record.status == "skipped":
        print("      nothing to do: inputs, configuration and code are those of the last run", flush=True)
        return
    print(
        f"      done in {record.seconds:.1f} s: {record.rows_in:,} rows in, {record.rows_out:,} out, "
        f"{record.quarantined:,} quarantined"
    )
    for note in record.notes:
        print("      " + note.replace("\n", "\n      "), flush=True)


def _close(ctx: Context) -> None:
    from akt_spark.evaluation.report import terminal_table

    print("\n" + terminal_table(ctx))
