"""A one-node Apache Kafka (KRaft) without Docker, from pinned and checksummed Maven artifacts.

    python deploy/kafka/broker.py start --port 9092 --foreground

prints the bootstrap address on stdout once records can be written, and runs until SIGTERM or SIGINT. Needs Java 17 or
newer; the first start also needs Maven, which copies 43 MB into the user's cache directory. Tests use `KafkaBroker` as
a context manager. Standard library only.
"""

import argparse
import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
VERSION = "4.3.1"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
SEVERAL_ID = "c2V2ZXJhbC1icm9rZXJzLg"
"""All brokers of one cluster are formatted with one id."""

_JVM = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
)
# Small sessions are for tests of expulsion. The two session lines of the broker let one that was killed come back
# within seconds: with the defaults its own successor waits 13 s for the old registration to end.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}/log
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.segment.bytes=16777216
log.index.size.max.bytes=1048576
"""


class BrokerMissing(RuntimeError):
    """This machine lacks what the broker needs; the message says what and how to get it."""


class BrokerFailed(RuntimeError):
    """The broker ended, or did not answer in time; the message ends with the end of its log."""


class KafkaBroker:
    """`with KafkaBroker() as broker: ... broker.bootstrap ...`; up in 3–5 s.

    `data` keeps the log between runs; without it a temporary directory is used and removed. Port 0 takes a free one,
    which stays the same when the broker is restarted. `more` are properties over those above; with
    `controller.quorum.voters` among them it is one broker of several. `scram` are passwords of users (SCRAM-SHA-512).
    """

    def __init__(
        self,
        data: Path | None = None,
        port: int = 0,
        controller_port: int = 0,
        more: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
    ) -> None:
        self._temporary = data is None
        self._data = Path(tempfile.mkdtemp(prefix="heimdall-kafka-")) if data is None else data.resolve()
        self._port = port or _free_port()
        self._controller_port = controller_port or _free_port()
        self._more = dict(more or {})
        self._scram = dict(scram or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start and wait until the broker answers; raises `BrokerMissing` or `BrokerFailed`."""
        java, libraries = _java(), resolve_libraries()
        properties = self._write_properties()
        if not (self._data / "log" / "meta.properties").exists():
            self._format(java, libraries, properties)
        command = [java, *_JVM, "-cp", f"{libraries}/*", "kafka.Kafka", str(properties)]
        with (self._data / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_until_ready()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough; does nothing if the broker is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a paused process would not see the SIGTERM
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL; `start` brings it back with its log."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a broken network."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop, and remove the data if it was temporary."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self._data, ignore_errors=True)

    def wait(self) -> int:
        """Until the broker ends by itself; its exit code."""
        return self._running().wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise BrokerFailed("the broker is not running; call start()")
        return self._process

    def _write_properties(self) -> Path:
        self._data.mkdir(parents=True, exist_ok=True)
        path = self._data / "server.properties"
        ours = _PROPERTIES.format(port=self._port, controller_port=self._controller_port, data=self._data.as_posix())
        path.write_text(ours + "".join(f"{name}={value}\n" for name, value in self._more.items()))  # the last one holds
        return path

    def _format(self, java: str, libraries: Path, properties: Path) -> None:
        command = [java, *_JVM, "-cp", f"{libraries}/*", "kafka.tools.StorageTool", "format"]
        several = "controller.quorum.voters" in self._more
        command += ["-t", SEVERAL_ID] if several else ["-t", _cluster_id(), "--standalone"]
        command += ["-c", str(properties)]
        for name, password in self._scram.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerFailed(f"formatting {self._data} failed:\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            code = self._running().poll()
            if code is not None:
                self._process = None
                raise BrokerFailed(f"the broker ended with code {code}:\n{self._log_end()}")
            if _answers(self._port):
                return
            time.sleep(0.05)
        self.stop()
        raise BrokerFailed(f"the broker did not answer within {START_TIMEOUT_S:g} s:\n{self._log_end()}")

    def _log_end(self) -> str:
        lines = (self._data / "broker.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])


def resolve_libraries() -> Path:
    """The directory with the broker's jars: from the cache, else copied there by Maven. Checked every time."""
    sums = _read_sums()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heimdall" / f"kafka-{VERSION}"
    if not cache.is_dir():
        _copy_with_maven(cache, sums)
    if wrong := _wrong_files(cache, sums):
        raise BrokerMissing(
            f"{cache} is not what deploy/kafka/jars.sha256 pins: {', '.join(wrong)}. "
            f"Remove the directory and start again to have it copied anew."
        )
    return cache


def _copy_with_maven(cache: Path, sums: dict[str, str]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerMissing(
            f"Apache Kafka's jars are not in {cache} and there is no Maven to copy them. Install Maven (Debian: "
            f"apt install maven) or fill that directory from another machine."
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"kafka-{VERSION}-", dir=cache.parent))
    try:
        command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerMissing(f"Maven could not copy Apache Kafka {VERSION}:\n{(done.stdout + done.stderr)[-2000:]}")
        if wrong := _wrong_files(fresh, sums):
            raise BrokerMissing(f"Maven copied other files than deploy/kafka/jars.sha256 pins: {', '.join(wrong)}")
        with contextlib.suppress(OSError):  # another process was first, with the same files
            fresh.rename(cache)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read_sums() -> dict[str, str]:
    lines = (HERE / "jars.sha256").read_text().split("\n")
    return {name: digest for digest, name in (line.split() for line in lines if line)}


def _wrong_files(directory: Path, sums: dict[str, str]) -> list[str]:
    """Names that are missing, unexpected or of other content."""
    present = {path.name: path for path in directory.iterdir()}
    wrong = set(present) ^ set(sums)
    wrong |= {name for name in set(present) & set(sums) if _sha256(present[name]) != sums[name]}
    return sorted(wrong)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise BrokerMissing(
            "Apache Kafka needs Java 17 or newer, and there is no java on the PATH or in JAVA_HOME "
            "(Debian: apt install openjdk-17-jre-headless)."
        )
    return found


def _cluster_id() -> str:
    """22 characters; one that starts with a dash would be read as an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    """Whether a metadata request names at least one broker, which is when records can be written."""
    body = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)  # Metadata v1, no client id, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.recv(12)
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


def main() -> int:
    parser = argparse.ArgumentParser(description="A one-node Apache Kafka for development and tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="run a broker until SIGTERM or SIGINT")
    start.add_argument("--port", type=int, default=9092, help="0 takes a free one (default 9092)")
    start.add_argument("--data", type=Path, help="keep the log here (default: a temporary directory)")
    start.add_argument("--foreground", action="store_true", help="stay attached, which is the only way it runs")
    arguments = parser.parse_args()

    broker = KafkaBroker(arguments.data, arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        broker.start()
        print(broker.bootstrap, flush=True)
        return broker.wait()
    except (BrokerMissing, BrokerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        broker.close()


if __name__ == "__main__":
    sys.exit(main())
