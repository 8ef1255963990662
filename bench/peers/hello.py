"""FastAPI and Mangum saying hello: the cold start that others begin with. Runs on AWS's own Python client."""

from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()


@app.post("/")
def hello() -> dict[str, str]:
    return {"content": "0000000000000000 0000000000000000 hello"}


handler = Mangum(app, lifespan="off")
