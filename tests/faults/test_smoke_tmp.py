import pytest, time
from pathlib import Path
from tests.brokers.clusters import ApacheCluster
from tests.faults.fleet import Setup
from tests.faults.scenario import scenario
@pytest.mark.kafka
async def test_smoke(apache_broker: ApacheCluster, tmp_path: Path) -> None:
    t=time.time()
    async with scenario(apache_broker, Setup(7, tmp_path)) as run:
        print("up", time.time()-t)
        await run.load.many(200, 100)
        await run.settled()
        print("settled", time.time()-t)
        v = await run.verdict()
        print(v.figures(), time.time()-t)
        assert v
