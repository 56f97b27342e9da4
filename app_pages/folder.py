"""Set: what the network does over a whole set of pictures: right and wrong, its channels, and shortcuts."""

import streamlit as st

from app_pages import common, folder_all, folder_answers, folder_channels, folder_set, folder_shortcuts, picture_sets
from vizcore.records import LensError

QUESTIONS = {
    "Right and wrong": folder_answers.show,
    "Channels": folder_channels.show,
    "Shortcuts": folder_shortcuts.show,
}

here = common.chosen()
st.title("Set", anchor=False)
st.caption(
    "What the network does with many pictures at once: how often it is right, which channels carry a class, and "
    "whether it knows a class by its subject or by what lies beside it. Folders are the classes."
)
common.warn_untrained(here)
try:
    pictures = picture_sets.choose(here)
    question = st.segmented_control(
        "Question",
        list(QUESTIONS),
        default=next(iter(QUESTIONS)),
        required=True,
        key="set_question",
        bind="query-params",
    )
    if pictures is not None and pictures.copies:
        st.info(
            f"These are changed copies of {len(set(pictures.labels))} photos. Intervals, errors and verdicts below "
            "take each for a picture of its own: they hold of these copies, and say nothing of other photos. Bring a "
            "zip for that.",
            icon=":material/content_copy:",
        )
    if pictures is not None:
        folders = folder_set.choose_classes(here, pictures)
        QUESTIONS[question](folders)
        folder_all.offer(folders)
except LensError as refusal:
    st.error(common.plain(str(refusal)), icon=":material/block:")
