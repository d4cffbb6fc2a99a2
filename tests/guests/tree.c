//! A binary tree built, walked and freed by recursion.
#include "guest.h"

struct node { uint32_t key; struct node *left, *right; };

static struct node *insert(struct node *n, uint32_t key) {
    if (!n) {
        n = calloc(1, sizeof *n);
        CHECK(n != NULL);
        n->key = key;
    } else if (key < n->key) {
        n->left = insert(n->left, key);
    } else {
        n->right = insert(n->right, key);
    }
    return n;
}
static uint64_t walk(const struct node *n, uint64_t h) {
    if (!n) return h;
    h = walk(n->left, h);
    return walk(n->right, mix(h, n->key));
}
static int height(const struct node *n) {
    if (!n) return 0;
    int l = height(n->left), r = height(n->right);
    return 1 + (l > r ? l : r);
}
static void drop(struct node *n) {
    if (n) { drop(n->left); drop(n->right); free(n); }
}

int main(void) {
    struct node *root = NULL;
    for (int i = 0; i < 80; i++) root = insert(root, rng());
    printf("%016" PRIx64 " %d\n", walk(root, 1), height(root));
    drop(root);
}
