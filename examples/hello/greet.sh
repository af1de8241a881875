#!/bin/sh
echo "@GREETING@ $(cat /arch)"
