/// Functions by theme; each list holds descriptions with their bodies.
enum Functions {}
/// Plugins by theme.
enum Plugins {}
