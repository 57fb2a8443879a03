/* A library, and no plugin. */
int nothing(void) {
    return 0;
}
