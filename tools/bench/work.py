"""What a model has to do, from its config.json: operations of a prefill, bytes of weights per token."""

import json
from pathlib import Path

# A block of weights in memory: bytes for so many weights.
FORMATS = {"q8_0": (34, 32), "q4k": (144, 256), "f32": (4, 1), "f16": (2, 1), "bf16": (2, 1)}
# The table that embeds tokens and gives logits keeps 8 bits.
TABLE_FORMATS = FORMATS | {"q4k": FORMATS["q8_0"]}


class Work:
    """The dimensions of one checkpoint; the names are those of config.json."""

    def __init__(self, checkpoint):
        config = json.loads((Path(checkpoint) / "config.json").read_text())
        text, vision = config["text_config"], config["vision_config"]
        self.hidden, self.mlp = text["hidden_size"], text["intermediate_size"]
        self.layers, self.heads = text["num_hidden_layers"], text["num_attention_heads"]
        self.kv_heads, self.head_dim = text.get("num_key_value_heads", 1), text.get("head_dim", 256)
        self.vocab = text["vocab_size"]
        self.vision_hidden, self.vision_mlp = vision["hidden_size"], vision["intermediate_size"]
        self.vision_layers, self.patch = vision["num_hidden_layers"], vision["patch_size"]
        self.side = vision.get("image_size", 224)
        self.patches = (self.side // self.patch) ** 2

    def _layer_weights(self):
        """Weights of the linear layers in one of the decoder's layers."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.hidden * (q + 2 * kv) + q * self.hidden + 3 * self.hidden * self.mlp

    def prefill_operations(self, prompt_tokens):
        """Of one picture and prompt; a multiplication and an addition are two.

        Linear layers, 2·m·n·k each, by stage; attention's own products (q·k and the sum over v) apart. Every row
        goes through every layer, and one row through the token table.
        """
        rows, v = self.patches + prompt_tokens, self.vision_hidden
        vision_layer = 4 * v * v + 2 * v * self.vision_mlp
        vision = self.patches * (3 * self.patch**2 * v + self.vision_layers * vision_layer + v * self.hidden)
        text = rows * self.layers * self._layer_weights() + self.vocab * self.hidden
        attention = self.vision_layers * 2 * self.patches**2 * v
        attention += self.layers * 2 * rows**2 * self.heads * self.head_dim
        return {"vision": 2 * vision, "text": 2 * text, "attention": 2 * attention}

    def token_bytes(self, dtype):
        """Bytes of weights that one step of decoding reads: the decoder's layers and the token table."""
        size, count = FORMATS[dtype]
        table_size, table_count = TABLE_FORMATS[dtype]
        layers = self.layers * self._layer_weights() * size // count
        return layers + self.vocab * self.hidden * table_size // table_count
