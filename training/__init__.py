"""The trainer: folders of labelled images in, one self-describing checkpoint out."""
