"""The upper half of a picture: sections along a spine, shortcuts above it, the shapes of the maps below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipway.drawing.anatomy import UnitKind
from skipway.drawing.outline import Card, Group, Outline, Section, Shape
from skipway.drawing.scene import Box, Frame, Label, Line, LineStyle, Scene, text_width

SMALL, NORMAL = 7.5, 8.5
OP_HEIGHT, OP_GAP, OP_PAD, CARD_PAD = 14.0, 2.5, 4.0, 4.0
GAP = 22.0  # between cards: room for a sum, the shape's leader and the next fork
FORK = 6.5  # from a card to the fork before it and the sum behind it
PANEL_PAD, PANEL_GAP = 13.0, 10.0
SUM_RADIUS = 4.0
DECK = 3.0  # how far each card of a deck looks out above the one before it
ARC_RISE = 15.0
HEADER = 17.0
BADGE_RADIUS = 6.0
TALLEST_MAP, SMALLEST_MAP, MAP_DEPTH = 32.0, 3.0, 0.3
MAP_REACH = TALLEST_MAP * (1 + MAP_DEPTH) / 2
LABEL_DISTANCE = 7.0


def shape_text(shape: Shape) -> str:
    """Channels, height and width, as `skipway summary` orders them."""
    return "×".join(map(str, shape))


def kind_letter(number: int) -> str:
    """A, B, C... for the kinds of units in order of appearance."""
    return chr(ord("A") + number)


def lay_spine(network: Outline) -> Scene:
    """The spine as a scene of its own, its top left corner at the origin."""
    return _Spine(network).scene


@dataclass(frozen=True)
class _Levels:
    """Heights, from the top: of the shortcuts' arcs, the spine itself, the badges below units, the panels' lower edge,
    the maps' middle, and the lower edge of all.
    """

    arcs: float
    spine: float
    badges: float
    panels: float
    maps: float
    bottom: float


def _levels(network: Outline) -> _Levels:
    """The heights that fit the network's tallest card, and all that it has above and below its units."""
    tallest = unit = 0.0  # half of the tallest card's height, and of the tallest unit's
    bracketed = False
    for section in network.sections:
        for group in section.groups:
            bracketed = bracketed or len(group.cards) > 1
            for card in group.cards:
                half = _card_height(card) / 2
                tallest = max(tallest, half)
                if card.kind:
                    unit = max(unit, half)
    arched = any(kind.shortcut != "none" for kind in network.kinds)
    above = unit + 2 * DECK
    if arched:
        above += ARC_RISE + SMALL
    spine = HEADER + 6 + max(tallest, above)
    badges = spine + unit + 5 + BADGE_RADIUS
    lowest = spine + tallest
    if network.kinds:
        below = badges + BADGE_RADIUS
        if bracketed:
            below += 16
        lowest = max(lowest, below)
    panels = lowest + 7
    maps = panels + 14 + MAP_REACH
    return _Levels(
        arcs=spine - unit - 2 * DECK - ARC_RISE,
        spine=spine,
        badges=badges,
        panels=panels,
        maps=maps,
        bottom=maps + MAP_REACH + 10 + SMALL / 2,
    )


class _Spine:
    """Places sections from left to right.

    The last card ends at `x`, and the flow behind it, which may start at a sum, at `tail`; `reached` is where the
    card's panel ends.
    """

    def __init__(self, network: Outline) -> None:
        self.levels = _levels(network)
        self.scene = Scene(network.spec.name, height=self.levels.bottom)
        self.letters = {kind: kind_letter(number) for number, kind in enumerate(network.kinds)}
        self.widest = _widest(network)
        self.shown: Shape = ()  # the last shape that was written, and where its text ended
        self.label_end = -math.inf
        self.shape, self.endpoint = network.input_shape, "input"
        self.x = self.reached = self.tail = text_width("input", NORMAL) + 4.0
        self._end("input", 0.0)
        for section in network.sections:
            self._section(section)
        self._flow_to(self.reached + GAP + 2, 0.0)
        result = "features"
        if network.spec.num_classes:
            result = "logits"
        self._end(result, self.reached + GAP + 6)
        self.scene.width = self.scene.right()

    def _end(self, text: str, x: float) -> None:
        """Name what enters or leaves the network."""
        self.scene.labels.append(Label(text, x, self.levels.spine, NORMAL, "start", tone="muted"))

    def _section(self, section: Section) -> None:
        """A section: its groups, a panel behind them where it has units, its title."""
        boxed = any(card.kind for group in section.groups for card in group.cards)
        pad = 0.0
        gap = GAP
        if boxed:
            pad = PANEL_PAD
            if self.reached > self.x:
                gap = PANEL_GAP  # from panel to panel
        first, *others = section.groups
        left = self._group(first, gap, pad)
        for group in others:
            self._group(group, GAP, 0.0)
        frame = Frame(left - pad, 0.0, self.x - left + 2 * pad, self.levels.panels)
        if boxed:
            self.scene.boxes.append(Box("panel", "stage", frame, section.title))
        self.reached = frame.right
        middle = frame.x + frame.width / 2
        self.scene.labels.append(Label(section.title, middle, HEADER / 2 + 2, NORMAL, bold=True))

    def _group(self, group: Group, gap: float, pad: float) -> float:
        """A group's cards, with a bracket below several of them. Returns where the first begins."""
        first, *others = group.cards
        if not others:
            return self._card(first, group.repeat, gap=gap, pad=pad)
        left = self._card(first, 1, gap=gap, pad=pad)
        for card in others:
            self._card(card, 1, gap=GAP, pad=0.0)
        y = self.levels.badges + BADGE_RADIUS + 4
        points = ((left, y), (left, y + 4), (self.x, y + 4), (self.x, y))
        self.scene.lines.append(Line(points, "bracket", radius=2.0))
        middle = (left + self.x) / 2
        self.scene.labels.append(Label(f"× {group.repeat}", middle, y + 11, NORMAL, bold=True))
        return left

    def _card(self, card: Card, repeat: int, *, gap: float, pad: float) -> float:
        """A card, `gap` behind what stands before it, and `pad` inside its panel. Returns where it begins."""
        width = _card_width(card)
        height = _card_height(card)
        left = self._flow_to(self.reached + gap + pad, pad)
        frame = Frame(left, self.levels.spine - height / 2, width, height)
        self._deck(card, frame, repeat)
        role = "card"
        if card.kind:
            role = "unit"
        self.scene.boxes.append(Box("card", role, frame, card.endpoint))
        y = frame.y + CARD_PAD
        for op in card.ops:
            place = Frame(left + CARD_PAD, y, width - 2 * CARD_PAD, OP_HEIGHT)
            self.scene.boxes.append(Box("op", op.role, place, op.text))
            self.scene.labels.append(Label(op.text, left + width / 2, y + OP_HEIGHT / 2, SMALL))
            y += OP_HEIGHT + OP_GAP
        self.x = self.reached = self.tail = frame.right
        self.shape, self.endpoint = card.shape, card.endpoint
        if card.kind:
            self._badge(card.kind, left + width / 2, repeat)
            if card.kind.shortcut != "none":
                self._arc(card, card.kind, frame, repeat)
        return left

    def _deck(self, card: Card, frame: Frame, repeat: int) -> None:
        """The upper edges of further cards behind a card that stands for several: two at the most."""
        hidden = min(repeat, 3) - 1
        for behind in range(hidden, 0, -1):
            inset = 2.5 * behind
            deck = Frame(frame.x + inset, frame.y - DECK * behind, frame.width - 2 * inset, frame.height / 2)
            self.scene.boxes.append(Box("back", "card", deck, card.endpoint))

    def _badge(self, kind: UnitKind, x: float, repeat: int) -> None:
        """The letter of a unit's kind below its card, and how often the unit stands."""
        y = self.levels.badges
        if repeat == 1:
            badge(self.scene, self.letters[kind], x, y)
            return
        text = f"× {repeat}"
        width = 2 * BADGE_RADIUS + 3 + text_width(text, NORMAL, bold=True)
        badge(self.scene, self.letters[kind], x - width / 2 + BADGE_RADIUS, y)
        self.scene.labels.append(Label(text, x + width / 2, y, NORMAL, "end", bold=True))

    def _arc(self, card: Card, kind: UnitKind, frame: Frame, repeat: int) -> None:
        """A unit's shortcut, from the fork before its card to the sum behind it."""
        style: LineStyle = "flow"
        if kind.shortcut != "none":
            style = kind.shortcut
        start, end = frame.x - FORK - 1, frame.right + FORK
        top, spine = self.levels.arcs, self.levels.spine
        points = ((start, spine), (start, top), (end, top), (end, spine - SUM_RADIUS))
        self.scene.lines.append(Line(points, style, 18.0, arrow=True, endpoint=card.endpoint, units=repeat))
        if kind.note:
            self.scene.labels.append(Label(kind.note, (start + end) / 2, top - 5.5, SMALL, tone=style))
        circle(self.scene, "+", end, spine)
        self.scene.lines.append(Line(((self.x, spine), (end - SUM_RADIUS, spine))))
        self.tail = end + SUM_RADIUS

    def _flow_to(self, x: float, pad: float) -> float:
        """Draw the flow on to `x`, which lies `pad` inside its panel, or farther where the shape's text needs it.

        A shape that has not changed is not written again. Returns where the flow ends.
        """
        joint = (self.reached + x - pad) / 2
        if self.shape != self.shown:
            text = shape_text(self.shape)
            half = text_width(text, SMALL) / 2
            # The text of the shape before may reach into this one's place.
            late = max(0.0, self.label_end + LABEL_DISTANCE + half - joint)
            joint += late
            x += 2 * late
            self.label_end = joint + half
            self.shown = self.shape
            self._map(joint)
            self.scene.labels.append(Label(text, joint, self.levels.maps + MAP_REACH + 10, SMALL))
        points = ((self.tail, self.levels.spine), (x, self.levels.spine))
        self.scene.lines.append(Line(points, arrow=True, shape=self.shape, endpoint=self.endpoint))
        return x

    def _map(self, x: float) -> None:
        """A cuboid as tall as the map, as thick as it has channels, both on scales that keep small maps visible."""
        tallest = math.log2(self.widest + 1)
        height = SMALLEST_MAP + (TALLEST_MAP - SMALLEST_MAP) * math.log2(_side(self.shape)) / tallest
        width = 1.5 + 1.1 * math.log2(self.shape[0] + 1)
        depth = MAP_DEPTH * height
        top = self.levels.maps - (height - depth) / 2
        face = Frame(x - (width + depth) / 2, top, width, height)
        self.scene.boxes.append(Box("map", "map", face, shape_text(self.shape), depth))
        leader = ((x, self.levels.spine + 1), (x, top - depth - 3))
        self.scene.lines.append(Line(leader, "leader"))


def badge(scene: Scene, letter: str, x: float, y: float) -> None:
    """The letter of a kind of unit, in a disc around (x, y)."""
    frame = Frame(x - BADGE_RADIUS, y - BADGE_RADIUS, 2 * BADGE_RADIUS, 2 * BADGE_RADIUS)
    scene.boxes.append(Box("badge", "badge", frame, letter))
    scene.labels.append(Label(letter, x, y, SMALL, tone="paper", bold=True))


def circle(scene: Scene, sign: str, x: float, y: float) -> None:
    """A sum or a product at (x, y)."""
    frame = Frame(x - SUM_RADIUS, y - SUM_RADIUS, 2 * SUM_RADIUS, 2 * SUM_RADIUS)
    scene.boxes.append(Box("node", sign, frame, sign))


def _widest(network: Outline) -> int:
    """Side of the largest map, the picture included."""
    widest = _side(network.input_shape)
    for section in network.sections:
        for group in section.groups:
            for card in group.cards:
                widest = max(widest, _side(card.shape))
    return widest


def _side(shape: Shape) -> int:
    """Side of a map (C, H, W); 1 for features (C,)."""
    if len(shape) == 3:
        return shape[-1]
    return 1


def _card_width(card: Card) -> float:
    """Width in points that fits the longest operation."""
    widest = 44.0
    for op in card.ops:
        widest = max(widest, text_width(op.text, SMALL) + 2 * OP_PAD)
    return widest + 2 * CARD_PAD


def _card_height(card: Card) -> float:
    """Height in points that fits all operations."""
    return len(card.ops) * (OP_HEIGHT + OP_GAP) - OP_GAP + 2 * CARD_PAD
