//! PaliGemma on candle: pixels and token ids in, logits out.
