"""
Trains crammedBERT with dense layers in PyTorch (arXiv 2212.14034), as the peer of `ufb bench training`.

Speaks JSON, a value a line. Says {"torch": version}; takes {"folder", "threads"}: a checkpoint folder to start from; then, for each
{"ids", "labels", "learningRate"} ([batch][length] of token ids, -100 where nothing is predicted), takes a step and says {"loss",
"milliseconds"}. Ends with its input. Fused where PyTorch is: attention, AdamW; the head sees predicted positions only.
"""

import json
import math
import struct
import sys
import time

import torch
from torch.nn import functional as F


def read_weights(path):
    """The F32 tensors of a safetensors file, as parameters by name; buffers (without extents) are left out."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["shape"] == []:
            continue
        if entry["dtype"] != "F32":
            raise SystemExit(f"{path}: tensor '{name}' is {entry['dtype']}, expected F32")
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
        weights[name] = values.reshape(entry["shape"]).clone().requires_grad_()
    return weights


def sinusoid(positions, width):
    """[positions, width]: sine on even columns, cosine on odd ones."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10000) / width))
    angles = torch.arange(positions)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(positions, width)


class Model:
    def __init__(self, folder):
        with open(f"{folder}/config.json") as file:
            arch = json.load(file)["arch"]
        self.layers = arch["num_transformer_layers"]
        self.width = arch["hidden_size"]
        self.heads = arch["attention"]["num_attention_heads"]
        self.epsilon = arch["norm_eps"]
        self.pad = arch["embedding"]["pad_token_id"]
        self.weights = read_weights(f"{folder}/model.safetensors")
        self.positions = sinusoid(arch["embedding"]["max_seq_length"], self.width)

    def norm(self, name, x):
        return F.layer_norm(x, (self.width,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], self.epsilon)

    def attention(self, name, x):
        batch, length, width = x.shape
        projected = F.linear(x, self.weights[f"{name}.self_attention.query_key_value.weight"])
        # Laid out per head: its query, its key, its value.
        query, key, value = projected.view(batch, length, self.heads, 3, width // self.heads).permute(3, 0, 2, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value)
        return F.linear(context.transpose(1, 2).reshape(batch, length, width), self.weights[f"{name}.dense.weight"])

    def feedforward(self, name, x):
        hidden = F.gelu(F.linear(x, self.weights[f"{name}.dense_in.weight"]))
        return F.linear(hidden, self.weights[f"{name}.dense_out.weight"])

    def loss(self, ids, labels):
        """Mean over the predicted positions, nats."""
        word = self.weights["encoder.embedding.word_embedding.weight"]
        scale = self.weights["encoder.embedding.pos_embedding.scale_factor"]
        x = F.embedding(ids, word, padding_idx=self.pad) + scale * self.positions[: ids.shape[1]]
        x = self.norm("encoder.embedding.norm", x)
        for index in range(self.layers):
            block = f"encoder.layers.{index}"
            x = x + self.attention(f"{block}.attn", self.norm(f"{block}.norm1", x))
            x = x + self.feedforward(f"{block}.ffn", self.norm(f"{block}.norm2", x))
        x = self.norm("encoder.final_norm", x)
        predicted = labels != -100
        return F.cross_entropy(F.linear(x[predicted], word), labels[predicted])


def optimizer_of(weights):
    decays = [weight for name, weight in weights.items() if "bias" not in name and "norm" not in name]
    others = [weight for name, weight in weights.items() if "bias" in name or "norm" in name]
    groups = [{"params": decays, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-12, fused=True)


def say(value):
    print(json.dumps(value), flush=True)


def main():
    say({"torch": torch.__version__})
    start = json.loads(sys.stdin.readline())
    torch.set_num_threads(start["threads"])
    model = Model(start["folder"])
    parameters = list(model.weights.values())
    optimizer = optimizer_of(model.weights)
    for line in sys.stdin:
        step = json.loads(line)
        ids, labels = (torch.tensor(step[name]) for name in ("ids", "labels"))
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = step["learningRate"]
        loss = model.loss(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        milliseconds = (time.perf_counter() - started) * 1000
        say({"loss": loss.item(), "milliseconds": milliseconds})


main()
