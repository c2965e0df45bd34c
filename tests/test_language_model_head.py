"""The page on language models is run as it is printed, on tiny models that transformers builds from a configuration."""

import copy
import os
import re
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be downloaded

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from sce_lab.losses import CutCrossEntropyLoss, SampledSoftmaxLoss, SCELoss  # noqa: E402
from sce_lab.memory import LiveBytes  # noqa: E402

GUIDE = Path(__file__).parent.parent / "docs" / "language_model_head.md"
SIZES = {"vocab_size": 211, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32}
MODELS = {
    "Llama": {},
    "Llama, tied": {"tie_word_embeddings": True},
    "Gemma2": {"final_logit_softcapping": 0.5},  # so low that it bends even the logits of random weights
    "Granite": {"logits_scaling": 0.1},
    "Cohere": {"logit_scale": 4.0},
}
SCE = {"n_buckets": 12, "bucket_size_x": 12, "bucket_size_y": 40}


@pytest.fixture(scope="module")
def guide():
    """What the page's code defines."""
    defined = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(block, defined)
    return defined


def make_model(name="Llama", **more):
    torch.manual_seed(0)
    family = name.split(",")[0]
    config = getattr(transformers, f"{family}Config")(**SIZES, **MODELS[name], **more)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # logits that differ
    return model


def make_batch(seed=0):
    """Tokens, and labels of which the first few are those of a prompt, and more is padding."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(SIZES["vocab_size"], (4, 14), generator=generator)
    labels = input_ids.clone()
    labels[:, :5] = -100
    labels[1, 9:] = -100
    return {"input_ids": input_ids, "labels": labels}


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_models_own_loss(guide, name):
    model, batch = make_model(name), make_batch()
    own = model(**batch).loss
    expected = gradients(model, own)
    loss = guide["loss_of"](model.config)
    ours = guide["head_loss"](model, loss, **batch)
    torch.testing.assert_close(ours, own.detach())
    assert_same(gradients(model, ours), expected)
    if "Llama" not in name:  # what the configuration asks for does change the loss
        plain = guide["head_loss"](model, CutCrossEntropyLoss(), **batch)
        assert abs(plain - own) > 1e-3


@pytest.mark.parametrize("kind", ["ce", "sce"])
def test_tied_weights_get_the_gradients_of_both_ends(guide, kind):
    tied, apart = make_model("Llama, tied"), make_model("Llama")
    apart.load_state_dict(tied.state_dict() | {"lm_head.weight": tied.get_output_embeddings().weight.clone()})
    assert guide["table_of"](tied) is tied.get_input_embeddings().weight
    loss = CutCrossEntropyLoss() if kind == "ce" else SCELoss(**SCE, centers=torch.randn(12, 16))
    found, two = (gradients(model, guide["head_loss"](model, loss, **make_batch())) for model in (tied, apart))
    ends = two["model.embed_tokens.weight"], two["lm_head.weight"]
    assert all(end.abs().max() > 1e-4 for end in ends)
    torch.testing.assert_close(found["model.embed_tokens.weight"], ends[0] + ends[1])


@pytest.mark.parametrize("kind", ["ce", "sampled", "sce"])
def test_checkpointing_changes_nothing(guide, kind):
    generator = torch.Generator()
    losses = {
        "ce": CutCrossEntropyLoss(),
        "sampled": SampledSoftmaxLoss(n_negatives=30, generator=generator),
        "sce": SCELoss(**SCE, generator=generator),
    }
    model, found = make_model("Gemma2").train(), []
    for again in (False, True):
        if again:
            model.activation_checkpointing_enable()
        generator.manual_seed(1)
        loss = guide["head_loss"](model, losses[kind], **make_batch())
        found.append((loss.item(), gradients(model, loss)))
    assert found[0][0] == pytest.approx(found[1][0])
    assert_same(found[1][1], found[0][1])


def test_labels_of_minus_100_are_ignored(guide):
    model, batch = make_model(), make_batch()
    losses = CutCrossEntropyLoss(), SCELoss(**SCE, centers=torch.randn(12, 16), reduction="none")
    with torch.no_grad():
        mean = guide["head_loss"](model, losses[0], **batch)
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1].flatten(0, 1)
        following = batch["labels"][:, 1:].flatten()
        counted = following != -100
        torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(logits[counted], following[counted]))
        each = guide["head_loss"](model, losses[1], **batch)
    assert not each[:, :-1].flatten()[~counted].any()
    assert not each[:, -1].any()  # after the last token comes none
    assert each[:, :-1].flatten()[counted].any()


class Largest(LiveBytes):
    """The largest storage that appears."""

    largest = 0

    def born(self, number, tensor):
        self.largest = max(self.largest, tensor.untyped_storage().nbytes())


@pytest.mark.parametrize("kind", ["ce", "sce", "sampled"])
def test_a_frozen_head_has_no_gradient_and_none_is_allocated(guide, kind):
    config = transformers.LlamaConfig(**SIZES | {"vocab_size": 5_000})
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM(config), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    made = {"ce": CutCrossEntropyLoss, "sce": SCELoss, "sampled": SampledSoftmaxLoss}[kind]
    loss = made(workspace_bytes=2**14, **(SCE if kind == "sce" else {}))
    table = guide["table_of"](model)
    assert not table.requires_grad
    counter = Largest()
    counter.know(model.state_dict().values())
    with counter:
        guide["head_loss"](model, loss, **make_batch()).backward()
    assert table.grad is None
    assert counter.largest < 5_000 * 16 * 4 / 2  # the table's gradient would be twice that
    adapted = [name for name, p in model.named_parameters() if p.requires_grad]
    assert adapted
    assert all("lora_" in name for name in adapted)
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_head_with_an_adapter_is_refused(guide):
    model = peft.get_peft_model(make_model(), peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    with pytest.raises(TypeError, match=r"the head must be one nn.Linear without a bias, got lora"):
        guide["table_of"](model)


def trained(trainer, model, folder, **loss):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        prediction_loss_only=True,
    )
    rows = list(rows_of(12))
    made = trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows[:4])
    if loss:
        made.loss = loss["loss"]
    made.train()
    return made


def rows_of(n):
    for seed in range(n):
        batch = make_batch(seed)
        yield {name: value[0] for name, value in batch.items()}  # as many targets in each


def test_the_trainer_of_the_page_trains_as_transformers_own(guide, tmp_path):
    first = make_model("Gemma2")
    models = [copy.deepcopy(first) for _ in range(2)]
    theirs = trained(transformers.Trainer, models[0], tmp_path)
    ours = trained(guide["HeadTrainer"], models[1], tmp_path, loss=guide["loss_of"](first.config))
    moved = 0.0
    for (name, one), other in zip(models[1].named_parameters(), models[0].parameters()):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)
        moved = max(moved, (one - first.get_parameter(name)).abs().max().item())
    assert moved > 1e-3
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-4)


def test_the_trainer_takes_sce(guide, tmp_path):
    made = trained(guide["HeadTrainer"], make_model(), tmp_path, loss=SCELoss(**SCE))
    logged = [each["loss"] for each in made.state.log_history if "loss" in each]
    assert len(logged) == 3
    assert all(value > 0 for value in logged)
