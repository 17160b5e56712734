"""
Text from a language model: which token comes next, the loop with its cache, and the characters that tokens make.

    for new_B1, logits_BV in islice(stream(model.read, context, tokens_BT, temperature=0.8, top_k=50), 100): ...

Shapes: B texts, T positions, V vocabulary.
"""

import inspect
import math

import torch
import torch.nn.functional as F


def probabilities(logits_BV, temperature=1.0, top_k=None, top_p=None):
    """
    The distribution (B, V) that a token is drawn from; temperature is above 0.

    top_k keeps the k likeliest tokens and those that tie with the last; of these, top_p keeps the likeliest ones until their
    sum reaches top_p, at least one (nucleus sampling, Holtzman et al. 2019).
    """
    if top_k is not None:
        kth_B1 = logits_BV.topk(min(top_k, logits_BV.shape[-1])).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < kth_B1, -math.inf)
    p_BV = F.softmax(logits_BV / temperature, dim=-1)
    if top_p is not None and top_p < 1:
        sorted_BV, order_BV = p_BV.sort(descending=True, stable=True)
        likelier_BV = torch.zeros_like(p_BV).scatter(-1, order_BV, sorted_BV.cumsum(-1) - sorted_BV)
        p_BV = p_BV.masked_fill(likelier_BV >= top_p, 0.0)
    return p_BV


def draw(logits_BV, temperature=1.0, top_k=None, top_p=None, generator=None):
    """A token for each text (B, 1); temperature 0 takes the likeliest one."""
    if temperature < 1e-6:  # a division by less could overflow
        return logits_BV.argmax(-1, keepdim=True)
    return torch.multinomial(probabilities(logits_BV, temperature, top_k, top_p), 1, generator=generator)


@torch.no_grad()
def stream(read, context, tokens_BT, **settings):
    """
    Yields (new tokens (B, 1), the logits (B, V) that they were drawn from) without end; T >= 1, `settings` are those of `draw`.

    read(new tokens, cache) -> (logits (B, V) after the last of them, cache), where a cache of None begins anew. A new token
    costs one position. When the cache holds `context` tokens, the newer half of them is read again as the start of a new one.
    """
    cache, seen = None, context
    while True:
        if seen == context:
            new_BT, cache, seen = tokens_BT[:, -(context if cache is None else max(1, context // 2)) :], None, 0
        logits_BV, cache = read(new_BT, cache)
        seen += new_BT.shape[1]
        new_BT = draw(logits_BV, **settings)
        tokens_BT = torch.cat([tokens_BT, new_BT], dim=1)
        yield new_BT, logits_BV


def reader(model):
    """The `read` of a causal model of transformers."""
    takes = inspect.signature(model.forward).parameters
    last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}  # else a long prompt makes logits of gigabytes

    def read(new_BT, cache=None):
        found = model(new_BT, past_key_values=cache, use_cache=True, **last)
        return found.logits[:, -1].float(), found.past_key_values

    return read


class Text:
    """The tokens of a text, and how many of them are shown: a token may end within a character, which waits until it is whole."""

    def __init__(self, decode):
        """decode: a function that gives the text of a list of tokens."""
        self.decode, self.ids, self.begin, self.shown = decode, [], 0, 0

    def extend(self, ids):
        """Adds tokens that are on the screen already, such as a prompt."""
        self.ids += ids
        self.shown = len(self.ids)

    def add(self, token):
        """The characters that the token completes; "" where there are none."""
        self.ids.append(token)
        if self.decode(self.ids[self.begin :]).endswith("\ufffd"):  # stands for a part of a character
            return ""
        return self.rest()

    def rest(self):
        """The characters that are not shown yet, a part of one at the end as U+FFFD."""
        # decoded with the tokens before them, because some tokenizers strip the space of a text's first word
        before, text = self.decode(self.ids[self.begin : self.shown]), self.decode(self.ids[self.begin :])
        self.begin, self.shown = self.shown, len(self.ids)
        return text[len(before) :]
