"""Asks a running `ufb serve` by the Python clients that people have: python scripts/check_clients.py http://localhost:3000

The server serves a model that embeds. Clients that are not installed are left out, and said so:
pip install openai langchain-huggingface llama-index-embeddings-text-embeddings-inference
"""

import json
import sys
import urllib.request

base = sys.argv[1].rstrip("/")
texts = ["A cat sleeps.", "A dog barks in the night."]
request = urllib.request.Request(f"{base}/embed", json.dumps({"inputs": texts}).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request) as response:
    expected = json.load(response)


def by_openai():
    from openai import BadRequestError, OpenAI

    client = OpenAI(base_url=f"{base}/v1", api_key="any")
    name = client.models.list().data[0].id
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model=name, input=texts, **options)
        if options.get("encoding_format") != "base64":
            yield [item.embedding for item in answer.data]
    try:
        client.embeddings.create(model=name, input="")
        sys.exit("openai: an empty text was not refused")
    except BadRequestError as error:
        assert "is empty" in str(error), error


def by_langchain():
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    embeddings = HuggingFaceEndpointEmbeddings(model="sentence-transformers/all-MiniLM-L6-v2")
    # Since its version 1.2 it takes no address for `model`.
    embeddings.client = InferenceClient(base_url=base)
    yield embeddings.embed_documents(texts)
    yield [embeddings.embed_query(text) for text in texts]


def by_llama_index():
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    embeddings = TextEmbeddingsInference(model_name="", base_url=base)
    yield embeddings.get_text_embedding_batch(texts)
    yield [embeddings.get_text_embedding(text) for text in texts]


for name, ask in (("openai", by_openai), ("langchain-huggingface", by_langchain), ("llama-index", by_llama_index)):
    try:
        for answer in ask():
            for vector, wanted in zip(answer, expected, strict=True):
                # The same numbers; what Python's clients print and read they round to no fewer than float32 has.
                assert len(vector) == len(wanted) and max(abs(a - b) for a, b in zip(vector, wanted)) < 1e-6, f"{name}: other vectors"
        print(f"{name}: the same vectors as /embed")
    except ImportError as error:
        print(f"{name}: not installed ({error.name})")
