ln -s two one; ln -s d/x two; ln -s d/../d dl
